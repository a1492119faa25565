// Registers, signs in, makes a room, posts, reads history and is refused, all by the generated client.

package story

import org.openapitools.client.apis.MessagesApi
import org.openapitools.client.apis.RoomsApi
import org.openapitools.client.apis.SignInApi
import org.openapitools.client.apis.SignUpApi
import org.openapitools.client.infrastructure.ApiClient
import org.openapitools.client.infrastructure.ClientError
import org.openapitools.client.infrastructure.ClientException
import org.openapitools.client.infrastructure.Serializer
import org.openapitools.client.models.Credentials
import org.openapitools.client.models.MessageDraft
import org.openapitools.client.models.Registration
import org.openapitools.client.models.Problem

const val ATTEMPTS = 100
const val PAUSE_MS = 100L

fun main(arguments: Array<String>) {
    val (address, name, text) = arguments
    val password = "secret of $name"

    SignUpApi(address).registerUser(Registration(email = name, username = name, password = password))
    val signedIn = SignInApi(address).logIn(Credentials(email = name, password = password))
    ApiClient.apiKey["Authorization"] = signedIn.authorization

    RoomsApi(address).createRoom(name)
    val messages = MessagesApi(address)
    messages.postMessage(name, MessageDraft(message = text))
    val found = (1..ATTEMPTS).firstNotNullOf {
        messages.readHistory(name).firstOrNull() ?: null.also { Thread.sleep(PAUSE_MS) }
    }
    // The creation of the room is the entry before it.
    check(found.message == text && found.username == name && found.seq == 2L) { "history holds $found" }

    try {
        messages.readHistory("no-room-of-$name")
        error("a room that nobody made has a history")
    } catch (refused: ClientException) {
        val body = (refused.response as ClientError<*>).body.toString()
        val problem = Serializer.kotlinxSerializationJson.decodeFromString<Problem>(body)
        check(refused.statusCode == 404 && problem.code == "room_not_found") { "refused with $body" }
    }
}
