// Follows each stream whose URL is named, with `okhttp-sse`, and tells every event as a line of JSON.

package follow

import java.time.Duration
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.put
import okhttp3.OkHttpClient
import okhttp3.Request
import okhttp3.Response
import okhttp3.sse.EventSource
import okhttp3.sse.EventSourceListener
import okhttp3.sse.EventSources

// How long to wait before coming back: the library keeps to itself what the server recommends.
const val AGAIN_AFTER_S = 3L

val again = Executors.newSingleThreadScheduledExecutor()
val client: OkHttpClient =
    // A server that is quiet sends a ping every 15 seconds.
    OkHttpClient.Builder().readTimeout(Duration.ofSeconds(50)).build().apply {
        // Otherwise all streams of one host but five wait for ever.
        dispatcher.maxRequestsPerHost = 1_000
        dispatcher.maxRequests = 1_000
    }

class Follower(private val stream: Int, private val url: String) : EventSourceListener() {
    private var position: String? = null

    fun open() {
        val request =
            Request.Builder()
                .url(url)
                .header("Authorization", System.getenv("ROOMCAST_TOKEN"))
        position?.let { request.header("Last-Event-ID", it) }
        EventSources.createFactory(client).newEventSource(request.build(), this)
    }

    override fun onEvent(eventSource: EventSource, id: String?, type: String?, data: String) {
        if (!id.isNullOrEmpty()) position = id
        val event = buildJsonObject {
            put("stream", stream)
            put("event", type ?: "message")
            put("id", id)
            put("data", data)
        }
        println(event)
    }

    // It never comes back by itself.
    override fun onClosed(eventSource: EventSource) = comeBack()

    override fun onFailure(eventSource: EventSource, t: Throwable?, response: Response?) = comeBack()

    private fun comeBack() {
        again.schedule(::open, AGAIN_AFTER_S, TimeUnit.SECONDS)
    }
}

fun main(urls: Array<String>) {
    urls.forEachIndexed { stream, url -> Follower(stream, url).open() }
}
