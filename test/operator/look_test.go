package operator

import (
	"bufio"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestClientsAreListedAndKicked(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	n1 := c.Nodes[0]
	p := pool.TxPool(t, c, 5, map[string]string{"failover": "off"})
	followed := follow(t, p)
	idle, open, sleeping := p.Connect(), p.Connect(), p.Connect()
	pool.MustQuery(t, idle, "SELECT 1")
	pool.MustQuery(t, open, "BEGIN")
	pid := pool.BackendPID(t, open)
	pool.Must(t, sleeping.Send(t.Context(), &pgproto3.Query{String: "SELECT pg_sleep(600)"}))
	pool.WaitNode(t, n1, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", "1")
	list := func() (clients []map[string]any) {
		t.Helper()
		for _, x := range p.JSON("clients")["Clients"].([]any) {
			clients = append(clients, x.(map[string]any))
		}
		return clients
	}
	clients := list()
	if len(clients) != 3 {
		t.Fatalf("clients: %v", clients)
	}
	for i, want := range []string{"idle", "in transaction", "active"} {
		if clients[i]["State"] != want || clients[i]["Username"] != "postgres" || clients[i]["Database"] != "postgres" {
			t.Errorf("client %d is %v, want %s", i, clients[i], want)
		}
	}
	if got := fmt.Sprint(clients[1]["PID"]); got != pid || clients[1]["Server"] != "n1" || clients[0]["PID"] != nil {
		t.Errorf("served by %s, want %s: %v", got, pid, clients)
	}
	kickable := map[any]bool{} // what top offers
	for _, x := range p.JSON("status", "details")["Connections"].([]any) {
		kickable[x.(map[string]any)["ID"]] = true
	}
	if !kickable[clients[1]["ID"]] || !kickable[clients[2]["ID"]] {
		t.Errorf("connections of clients %v", kickable)
	}
	pools := p.JSON("pools")["Pools"].([]any)
	if pl := pools[0].(map[string]any); len(pools) != 1 || pl["Active"] != 2.0 || pl["Waiting"] != 0.0 {
		t.Errorf("pools: %v", pools)
	}
	if sv := p.JSON("servers")["Servers"].([]any)[0].(map[string]any); sv["Server"] != "n1" || sv["State"] != "Primary" || sv["Active"] != 2.0 {
		t.Errorf("server: %v", sv)
	}
	for i, client := range []*pgtest.Client{idle, open, sleeping} {
		if _, errs, code := p.CLI("kick", fmt.Sprint(clients[i]["ID"])); code != 0 {
			t.Errorf("kick: %s", errs)
		}
		_, err := client.ReadResult(pool.Within(t))
		pool.WantCode(t, err, "57P01", "terminating connection due to administrator command")
	}
	pool.WaitNode(t, n1, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", "0")
	pgtest.WaitUntil(t, pool.Generous, "no client to be left", func() bool { return len(list()) == 0 }, p.Log)
	if _, errs, code := p.CLI("kick", fmt.Sprint(clients[0]["ID"])); code != 1 {
		t.Errorf("a client that has gone is kicked: exit code %d, %s", code, errs)
	}
	kicks := 0
	for e := range followed {
		if e.Message == "control command" && e.Fields["command"] == "kick" {
			if kicks++; kicks == 4 {
				return
			}
		}
	}
	t.Errorf("of 4 commands %d are events", kicks)
}

// event is a line of events.
type event struct {
	Message string
	Fields  map[string]any
}

// follow follows the events of a pool. The channel is closed when that ends, at the latest when time is up.
func follow(t *testing.T, p *pool.Pool) <-chan event {
	t.Helper()
	cmd := p.Command("pgagroal-cli", "-c", p.Path("pgagroal.conf"), "events", "--follow", "-F", "json")
	out, err := cmd.StdoutPipe()
	pool.Must(t, err)
	pool.Must(t, cmd.Start())
	late := time.AfterFunc(pool.Generous, func() { _ = cmd.Process.Kill() })
	list := make(chan event, 1000)
	go func() {
		defer close(list)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Errorf("%v: %s", err, lines.Text())
			}
			list <- e
		}
	}()
	t.Cleanup(func() {
		late.Stop()
		_ = cmd.Process.Kill()
		for range list {
		}
		_ = cmd.Wait()
	})
	return list
}
