// What an app keeps of a room, and how the events of its stream change it. The whole reducer of deploy/docs/log.md.

export interface Reaction { emoji: string, count: number }

export interface Message {
  id: string
  seq: number
  username: string
  public_id: string
  message: string
  created_on: string
  reply_to?: string
  mentions?: string[]
  edited_on?: string
  deleted?: boolean
  reactions?: Reaction[]
}

interface Change {
  target_seq: number
  message: string
  edited_on: string
  emoji: string
  count: number
  username: string
  change: string
  member: string
}

export interface Room {
  /** The messages that are shown, by seq. */
  messages: Map<number, Message>
  /** The users in the room, as far as the events say; `GET /chat/{room}/users` says who was there before. */
  members: Set<string>
  /** Sent back as `Last-Event-ID`: everything up to here was applied. */
  cursor: string
  /** The messages shown may be out of date: load history, then go on. */
  isOutdated: boolean
}

/** Applies one event. `name` is empty or `message` for an event without a name. */
export function apply(room: Room, name: string, data: string, id: string): void {
  const event: unknown = JSON.parse(data)
  const change = event as Change
  const target = room.messages.get(change.target_seq)
  switch (name) {
    case '':
    case 'message':
      room.messages.set((event as Message).seq, event as Message)
      break
    case 'edit':
      // Of a message that is not shown, or was deleted since.
      if (target === undefined || target.deleted === true) break
      target.message = change.message
      target.edited_on = change.edited_on
      break
    case 'delete':
      if (target === undefined) break
      target.message = ''
      target.deleted = true
      delete target.mentions
      delete target.edited_on
      delete target.reactions
      break
    case 'reaction': {
      if (target === undefined || target.deleted === true) break
      const others = (target.reactions ?? []).filter(({ emoji }) => emoji !== change.emoji)
      const counted = { emoji: change.emoji, count: change.count }
      target.reactions = change.count > 0 ? [...others, counted] : others
      break
    }
    case 'member':
      if (change.change === 'joined') room.members.add(change.member)
      if (change.change === 'left') room.members.delete(change.member)
      break
    case 'room':
      if (change.change === 'created') room.members.add(change.username)
      break
    case 'reset':
      room.isOutdated = true
      break
    // `ready`, `ping`, `bye`, and whatever a later version adds.
    default:
  }
  if (id !== '') room.cursor = id
}
