// Follows each stream whose URL is named, with npm `eventsource`, and tells every event as a line of JSON.
import { EventSource } from 'eventsource'

const token = process.env.ROOMCAST_TOKEN
// How long to wait before a new stream after one that the library has given up, in milliseconds.
const AGAIN_AFTER_MS = 3000
// The events that a stream brings in this test; the library hands over no others.
const TYPES = ['message', 'ready', 'rooms', 'reset', 'bye', 'ping']

function follow(address, stream, position) {
  const url = new URL(address)
  if (position) url.searchParams.set('last_event_id', position)
  const source = new EventSource(url, {
    fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, Authorization: token } }),
  })
  for (const type of TYPES) {
    source.addEventListener(type, (event) => {
      if (event.lastEventId) position = event.lastEventId
      console.log(JSON.stringify({ stream, event: type, id: event.lastEventId, data: event.data }))
    })
  }
  source.addEventListener('error', () => {
    // After a broken connection it comes back by itself; after an answer such as 503 it does not.
    if (source.readyState !== EventSource.CLOSED) return
    setTimeout(() => follow(address, stream, position), AGAIN_AFTER_MS)
  })
}

// While it waits to come back, the library does not keep a program alive that does nothing else.
setInterval(() => {}, AGAIN_AFTER_MS)
process.argv.slice(2).forEach((address, stream) => follow(address, stream))
