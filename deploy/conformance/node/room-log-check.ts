// Applies a recorded stream and compares with the history of the same moment, and with who is in the room, if that is given.
import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { apply, type Message, type Room } from './room-log.js'

const [recorded, shown, users] = process.argv.slice(2) as [string, string, string | undefined]
const events = JSON.parse(readFileSync(recorded, 'utf8')) as { name: string, data: string, id: string }[]
const history = JSON.parse(readFileSync(shown, 'utf8')) as Message[]

const room: Room = { messages: new Map(), members: new Set(), cursor: '', isOutdated: false }
for (const { name, data, id } of events) apply(room, name, data, id)

// The order in which emojis came up says nothing.
const sorted = (message: Message): Message => {
  const { reactions, ...rest } = message
  if (reactions === undefined || reactions.length === 0) return rest
  return { ...rest, reactions: [...reactions].sort((one, other) => one.emoji < other.emoji ? -1 : 1) }
}
const applied = [...room.messages.values()].sort((one, other) => one.seq - other.seq).map(sorted)
const expected = [...history].sort((one, other) => one.seq - other.seq).map(sorted)
if (!isDeepStrictEqual(applied, expected)) {
  console.error('applied', JSON.stringify(applied, undefined, 1), 'history', JSON.stringify(expected, undefined, 1))
  process.exit(1)
}
if (users !== undefined) {
  const present = JSON.parse(readFileSync(users, 'utf8')) as string[]
  if (!isDeepStrictEqual([...room.members].sort(), present.sort())) {
    console.error('members by the events', [...room.members], 'in the room', present)
    process.exit(1)
  }
}
console.log(`${events.length} events give the ${expected.length} messages of history`)
