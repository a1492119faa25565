// Follows each stream whose URL is named, with r3labs/sse, and tells every event as a line of JSON.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/r3labs/sse/v2"
	"gopkg.in/cenkalti/backoff.v1"
)

// How long to wait before coming back. The library does not look at what the server recommends, and its own strategy
// gives up for good after a quarter of an hour.
const againAfter = 3 * time.Second

type line struct {
	Stream int    `json:"stream"`
	Event  string `json:"event"`
	ID     string `json:"id"`
	Data   string `json:"data"`
}

var output struct {
	sync.Mutex
	*json.Encoder
}

func main() {
	output.Encoder = json.NewEncoder(os.Stdout)
	for number, url := range os.Args[1:] {
		go follow(number, url)
	}
	select {}
}

func follow(number int, url string) {
	client := sse.NewClient(url)
	client.Headers["Authorization"] = os.Getenv("ROOMCAST_TOKEN")
	client.ResponseValidator = passWholeEvents
	for {
		// The library returns after a stream that the server has ended, and comes back by itself after any other.
		client.ReconnectStrategy = backoff.NewConstantBackOff(againAfter)
		_ = client.SubscribeRaw(func(event *sse.Event) { tell(number, event) })
		time.Sleep(againAfter)
	}
}

// When a connection breaks, the library hands over what there was of the last event, and would go on from its id, or from
// what there was of that. So it gets to see whole events alone.
func passWholeEvents(_ *sse.Client, response *http.Response) error {
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return fmt.Errorf("answered %d", response.StatusCode)
	}
	response.Body = &wholeEvents{Closer: response.Body, lines: bufio.NewReader(response.Body)}
	return nil
}

// The body of a response up to the last empty line that has arrived.
type wholeEvents struct {
	io.Closer
	lines   *bufio.Reader
	partial []byte
	whole   []byte
}

func (body *wholeEvents) Read(into []byte) (int, error) {
	for len(body.whole) == 0 {
		line, err := body.lines.ReadBytes('\n')
		if err != nil {
			return 0, err
		}
		body.partial = append(body.partial, line...)
		if len(line) == 1 {
			body.whole, body.partial = body.partial, nil
		}
	}
	read := copy(into, body.whole)
	body.whole = body.whole[read:]
	return read, nil
}

func tell(number int, event *sse.Event) {
	name := string(event.Event)
	if name == "" {
		name = "message"
	}
	output.Lock()
	defer output.Unlock()
	_ = output.Encode(line{number, name, string(event.ID), string(event.Data)})
}
