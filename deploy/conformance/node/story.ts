// Registers, signs in, makes a room, posts, reads history and is refused, all by the generated client.
import { setTimeout } from 'node:timers/promises'
import { Configuration, MessagesApi, ResponseError, RoomsApi, SignInApi, SignUpApi, ProblemFromJSON } from './client/index.js'

const ATTEMPTS = 100
const PAUSE_MS = 100

const [address, name, text] = process.argv.slice(2) as [string, string, string]
const password = `secret of ${name}`

function check(holds: boolean, found: unknown): void {
  if (!holds) throw new Error(`not as expected: ${JSON.stringify(found)}`)
}

const nobody = new Configuration({ basePath: address })
await new SignUpApi(nobody).registerUser({ registration: { email: name, username: name, password } })
const signedIn = await new SignInApi(nobody).logIn({ credentials: { email: name, password } })
const somebody = new Configuration({ basePath: address, apiKey: () => signedIn.authorization })

await new RoomsApi(somebody).createRoom({ room: name })
const messages = new MessagesApi(somebody)
await messages.postMessage({ room: name, messageDraft: { message: text } })
let history = await messages.readHistory({ room: name })
for (let attempt = 1; history.length === 0 && attempt < ATTEMPTS; attempt++) {
  await setTimeout(PAUSE_MS)
  history = await messages.readHistory({ room: name })
}
const found = history[0]
// The creation of the room is the entry before it.
check(found?.message === text && found.username === name && found.seq === 2, history)
check(!Number.isNaN(new Date(found?.createdOn ?? '').getTime()), found?.createdOn)

try {
  await messages.readHistory({ room: `no-room-of-${name}` })
  throw new Error('a room that nobody made has a history')
} catch (error) {
  if (!(error instanceof ResponseError)) throw error
  const problem = ProblemFromJSON(await error.response.json())
  check(error.response.status === 404 && problem.code === 'room_not_found', problem)
}
