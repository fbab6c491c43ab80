package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/screen"
)

// views write the answers that have a page of their own. All other answers look as in
// plainView.
var views = map[string]func(*page, *answer) error{
	control.Ping:               view(pingView),
	control.Status:             view(statusView),
	control.StatusDetails:      view(detailsView),
	control.FailoverStatus:     view(failoverView),
	control.FailoverHistory:    view(historyView),
	control.FailoverRehearse:   view(rehearsalView),
	control.FailoverPause:      view(orderView),
	control.FailoverResume:     view(orderView),
	control.FailoverReset:      view(orderView),
	control.FailoverTrigger:    view(orderView),
	control.SwitchTo:           view(orderView),
	control.EnableDatabase:     view(databasesView),
	control.DisableDatabase:    view(databasesView),
	control.ConfList:           view(filesView),
	control.ConfReload:         view(reloadView),
	control.ConfReset:          view(reloadView),
	control.ConfSet:            view(setView),
	control.ConfAlias:          view(aliasView),
	control.ConfGet:            confView,
	control.ShutdownGracefully: view(shutdownView),
	control.ShutdownNow:        doneView("pgagroal ends now", ""),
	control.CancelShutdown:     doneView("the shutdown is cancelled: new clients are let in again", ""),
	control.ClearPrometheus:    doneView("the counters and histograms of the metrics begin at zero again", ""),
	control.Flush:              view(flushView),
	control.Clients:            view(clientsView),
	control.Pools:              view(poolsView),
	control.Servers:            view(serverLinesView),
	control.Events:             view(eventsView),
	control.Kick:               doneView("the client is disconnected", ""),
	control.WorkerRecycle:      view(recycleView),
	control.Pause:              view(pauseView),
	control.Resume:             view(resumeView),
	control.Upgrade:            view(upgradeView),
	control.ClearServer:        doneView("the server is probed now", control.Status),
}

// view makes a view of a function that takes the response decoded.
func view[T any](show func(*page, *answer, *T)) func(*page, *answer) error {
	return func(p *page, a *answer) error {
		var r T
		if err := a.response(&r); err != nil {
			return err
		}
		show(p, a, &r)
		return nil
	}
}

// doneView is the page of a command that has no response. next is a command for
// afterwards, or empty.
func doneView(text, next string) func(*page, *answer) error {
	return func(p *page, _ *answer) error {
		p.says(screen.Plain, text)
		if next == control.Status {
			p.suggest("pgagroal-cli status", "what became of the server")
		}
		return nil
	}
}

// orderView is the page of commands that change the failover.
func orderView(p *page, _ *answer, r *control.FailoverAnswer) {
	p.says(screen.Plain, r.Next)
}

func shutdownView(p *page, _ *answer, r *control.ShutdownResponse) {
	p.says(screen.Plain, r.Next)
	suggestShutdown(p, r)
}

// suggestShutdown suggests what can be done about a shutdown.
func suggestShutdown(p *page, r *control.ShutdownResponse) {
	if !r.Final {
		p.suggest("pgagroal-cli shutdown cancel", "take the shutdown back")
	}
	p.suggest("pgagroal-cli shutdown immediate", "don't wait for clients")
}

func flushView(p *page, _ *answer, r *control.FlushResponse) {
	p.says(screen.Plain, fmt.Sprintf("%d connections to the servers are closed.", r.Closed))
	if r.Graceful > 0 {
		p.says(screen.Worry, fmt.Sprintf("%d more are closed as soon as their clients don't need them.", r.Graceful))
		p.suggest("pgagroal-cli status details", "which connections are left")
	}
}

func recycleView(p *page, _ *answer, r *control.RecycleResponse) {
	p.says(screen.Plain, fmt.Sprintf("Workers replaced: %d. Clients moved: %d.", r.Workers, r.Moved))
	if r.Left > 0 {
		p.says(screen.Worry, fmt.Sprintf("%d clients stay with an old worker until they can be moved, or until upgrade_timeout.", r.Left))
		p.suggest("pgagroal-cli clients", "which clients are where")
	}
}

func upgradeView(p *page, _ *answer, r *control.UpgradeResponse) {
	p.says(screen.Plain, fmt.Sprintf("pgagroal %s has taken the place of %s: %s", r.To, r.From, r.Next))
}

func pauseView(p *page, _ *answer, r *control.PauseResponse) {
	p.says(screen.Worry, r.Paused+" is paused: "+r.Next)
	p.suggest("pgagroal-cli resume "+shellWord(r.Paused), "let clients go on")
}

func resumeView(p *page, _ *answer, r *control.PauseResponse) {
	p.says(screen.Plain, r.Paused+": "+r.Next)
}

// shellWord is a name as a shell takes it for one word.
func shellWord(name string) string {
	if name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-.:/", r)
	}) {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

// write returns the text of a successful answer. Of a failed one there is nothing to
// write but its message, which goes to standard error.
func (a *answer) write(on screen.Screen) (string, error) {
	if !a.Outcome.Status {
		return "", nil
	}
	p := &page{Screen: on}
	show, ok := views[a.Header.Command]
	if !ok {
		show = plainView
	}
	if err := show(p, a); err != nil {
		return "", err
	}
	return p.String(), nil
}

// at is when pgagroal has answered. Ages are as of then.
func (a *answer) at() time.Time {
	t, err := time.ParseInLocation("20060102150405", a.Header.Timestamp, time.Local)
	if err != nil {
		return time.Time{}
	}
	return t
}

// version is the ServerVersion of the response.
func (a *answer) version() string {
	var r struct{ ServerVersion string }
	if err := json.Unmarshal(a.Response, &r); err != nil {
		return ""
	}
	return r.ServerVersion
}
