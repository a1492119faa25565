// Follows one room through each address named, with r3labs/sse, and tells every event as a line of JSON.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/r3labs/sse/v2"
	"gopkg.in/cenkalti/backoff.v1"
)

// How long to wait before coming back. The library does not look at what the server recommends, and its own strategy
// gives up for good after a quarter of an hour.
const againAfter = 3 * time.Second

// What is read of the data of events: a message carries its seq, `ready` and `reset` the head of the room.
type numbers struct {
	Seq  *int64 `json:"seq"`
	Head *int64 `json:"head"`
}

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
	for number, address := range os.Args[1:] {
		go follow(number, address)
	}
	select {}
}

func follow(number int, address string) {
	client := sse.NewClient(fmt.Sprintf("%s/chat/%s/message", address, os.Getenv("ROOMCAST_ROOM")))
	client.Headers["Authorization"] = os.Getenv("ROOMCAST_TOKEN")
	for {
		// The library returns after a stream that the server has ended, and comes back by itself after any other.
		client.ReconnectStrategy = backoff.NewConstantBackOff(againAfter)
		_ = client.SubscribeRaw(func(event *sse.Event) { handle(number, client, event) })
		time.Sleep(againAfter)
	}
}

// When a connection breaks, the library hands over what there was of the last event, and would send its id, or what there
// was of it. So an event counts only if its id is whole, and the position is set by hand.
func handle(number int, client *sse.Client, event *sse.Event) {
	name := string(event.Event)
	if name == "" {
		name = "message"
	}
	var found numbers
	if json.Unmarshal(event.Data, &found) != nil {
		return
	}
	id := string(event.ID)
	switch name {
	case "message":
		if found.Seq == nil || !strings.HasSuffix(id, fmt.Sprintf("-%d", *found.Seq)) {
			return
		}
		client.Headers["Last-Event-ID"] = id
	case "ready", "reset":
		// A stream that resumes begins at the position that is known already.
		_, resumes := client.Headers["Last-Event-ID"]
		if found.Head != nil && strings.HasSuffix(id, fmt.Sprintf("-%d", *found.Head)) && (!resumes || name == "reset") {
			client.Headers["Last-Event-ID"] = id
		}
	}
	output.Lock()
	defer output.Unlock()
	_ = output.Encode(line{number, name, id, string(event.Data)})
}
