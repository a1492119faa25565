// Applies a recorded stream and compares with the history of the same moment.
import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { apply, type Message, type Room } from './room-log.js'

const [recorded, shown] = process.argv.slice(2) as [string, string]
const events = JSON.parse(readFileSync(recorded, 'utf8')) as { name: string, data: string, id: string }[]
const history = JSON.parse(readFileSync(shown, 'utf8')) as Message[]

const room: Room = { messages: new Map(), cursor: '', isOutdated: false }
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
console.log(`${events.length} events give the ${expected.length} messages of history`)
