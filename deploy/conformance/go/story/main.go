// Registers, signs in, makes a room, posts, reads history and is refused, all by the generated client.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"conformance/client"
)

const (
	attempts = 100
	pause    = 100 * time.Millisecond
)

func main() {
	if err := story(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func story(address, name, text string) error {
	settings := client.NewConfiguration()
	settings.Servers = client.ServerConfigurations{{URL: address}}
	api := client.NewAPIClient(settings)
	nobody := context.Background()
	password := "secret of " + name

	user := *client.NewRegistration(name, name, password)
	if _, _, err := api.SignUpAPI.RegisterUser(nobody).Registration(user).Execute(); err != nil {
		return err
	}
	signedIn, _, err := api.SignInAPI.LogIn(nobody).Credentials(*client.NewCredentials(name, password)).Execute()
	if err != nil {
		return err
	}
	somebody := context.WithValue(nobody, client.ContextAPIKeys, map[string]client.APIKey{
		"token": {Key: signedIn.GetAuthorization()},
	})

	if _, _, err := api.RoomsAPI.CreateRoom(somebody, name).Execute(); err != nil {
		return err
	}
	if _, err := api.MessagesAPI.PostMessage(somebody, name).MessageDraft(*client.NewMessageDraft(text)).Execute(); err != nil {
		return err
	}
	var history []client.Message
	for attempt := 0; attempt < attempts && len(history) == 0; attempt++ {
		time.Sleep(pause)
		if history, _, err = api.MessagesAPI.ReadHistory(somebody, name).Execute(); err != nil {
			return err
		}
	}
	// The creation of the room is the entry before it.
	if len(history) != 1 || history[0].GetMessage() != text || history[0].GetUsername() != name || history[0].GetSeq() != 2 {
		return fmt.Errorf("history holds %v", history)
	}

	_, answer, err := api.MessagesAPI.ReadHistory(somebody, "no-room-of-"+name).Execute()
	var refused *client.GenericOpenAPIError
	if !errors.As(err, &refused) || answer.StatusCode != http.StatusNotFound {
		return fmt.Errorf("a room that nobody made was answered with %v", answer)
	}
	if problem, ok := refused.Model().(client.Problem); !ok || problem.GetCode() != "room_not_found" {
		return fmt.Errorf("refused with %s", refused.Body())
	}
	return nil
}
