// Follows each stream whose URL is named, with npm `@microsoft/fetch-event-source`, and tells every event as a line of JSON.

// The library is made for browsers: this is all it uses of one.
globalThis.window = globalThis
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} }
const { fetchEventSource } = await import('@microsoft/fetch-event-source')

const token = process.env.ROOMCAST_TOKEN

function follow(url, stream) {
  let position
  return fetchEventSource(url, {
    headers: { Authorization: token },
    openWhenHidden: true,
    // The library sends an id as soon as its line has arrived, also of an event that was cut off behind that line. So the
    // position is kept here, of events that came to their end.
    fetch(input, init) {
      const { 'last-event-id': _, ...headers } = init.headers
      return fetch(input, { ...init, headers: position ? { ...headers, 'last-event-id': position } : headers })
    },
    async onopen(response) {
      if (!response.ok) throw new Error(`answered ${response.status}`)
    },
    onmessage(event) {
      if (event.id) position = event.id
      if (event.data === '') return
      console.log(JSON.stringify({ stream, event: event.event || 'message', id: event.id, data: event.data }))
    },
    // Without this it takes the end of a stream for the end of the work.
    onclose() {
      throw new Error('the server has ended the stream')
    },
    onerror() {},
  })
}

await Promise.all(process.argv.slice(2).map(follow))
