// Participants of the published Go SDK, controlled by lines of JSON: one command per line on standard input, one answer
// or event per line on standard output. tests/browser/clients/program.mjs is the controlling program.
//
//	{"id": 1, "as": "ada", "do": "join", "url": "ws://…", "token": "…"}   ->   {"id": 1, "ok": {"sid": "PA_…"}}
//	                                                                          {"event": "subscribed", "as": "ada", "who": "ben camera"}
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"

	protoLogger "github.com/livekit/protocol/logger"
	lksdk "github.com/livekit/server-sdk-go/v2"
)

// command is a request of the test. Fields that a command does not need are absent.
type command struct {
	ID     int      `json:"id"`
	As     string   `json:"as"`
	Do     string   `json:"do"`
	URL    string   `json:"url"`
	Token  string   `json:"token"`
	Single bool     `json:"single"`
	Video  []string `json:"video"`
	Audio  string   `json:"audio"`
	From   string   `json:"from"`
	Source string   `json:"source"`
	Path   string   `json:"path"`
	Topic  string   `json:"topic"`
	Pieces int      `json:"pieces"`
	Size   int      `json:"size"`
	Lossy  bool     `json:"lossy"`
}

func main() {
	if os.Getenv("CLIENT_LOG") == "" {
		lksdk.SetLogger(protoLogger.GetDiscardLogger())
	}
	out := &lines{to: os.Stdout}
	clients := map[string]*client{}
	scanner := bufio.NewScanner(os.Stdin)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var asked command
		if err := json.Unmarshal(scanner.Bytes(), &asked); err != nil {
			fmt.Fprintf(os.Stderr, "not a command: %v: %s\n", err, scanner.Text())
			os.Exit(2)
		}
		one := clients[asked.As]
		if one == nil {
			one = newClient(asked.As, out)
			clients[asked.As] = one
		}
		// Commands to one participant run one after the other, those to different participants in parallel.
		one.queue <- asked
	}
	// The test has ended, so leaving the rooms is unnecessary.
}

// lines writes whole lines, for concurrent writers.
type lines struct {
	mutex sync.Mutex
	to    io.Writer
}

func (l *lines) write(value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	_, _ = l.to.Write(append(text, '\n'))
}
