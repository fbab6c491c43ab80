package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// manyFirst is how many users log in for the first time at once.
const manyFirst = 50

// firstRole is the role of the nth such user.
func firstRole(n int) string { return fmt.Sprintf("first%d", n) }

// firstLogins returns the case of users that pgagroal has to look up. Their passwords are stored as MD5 hashes: for SCRAM
// fifty clients would compute for longer than the pooler takes.
func firstLogins() workload {
	return workload{
		name: "first-logins", title: fmt.Sprintf("first logins of users that auth_query looks up: one, %d clients of one user, %d users", manyFirst, manyFirst),
		clients: manyFirst, login: loginMD5, targets: append([]target{{kind: direct}}, lookedUp()...), measure: measureFirstLogins,
		goals: []goal{{metric: firsts, most: 5, absolute: true, looksUp: true}},
	}
}

// measureFirstLogins returns how long first logins take, and how much longer those of many clients of one user than one.
func measureFirstLogins(ctx context.Context, r *rig, _ workload, p *pooler) (map[string]float64, error) {
	for n := range manyFirst + 3 {
		role := firstRole(n)
		if _, err := r.node().Query(ctx, "DROP ROLE IF EXISTS "+role+"; CREATE ROLE "+role+" LOGIN PASSWORD 'md5"+auth.MD5Secret(role, password)+"'"); err != nil {
			return nil, err
		}
	}
	same := make([]string, manyFirst)
	users := make([]string, manyFirst)
	for n := range manyFirst {
		same[n], users[n] = firstRole(2), firstRole(n+3)
	}
	var took [4]time.Duration
	for i, roles := range [][]string{{firstRole(0)}, {firstRole(1)}, same, users} { // the first is to warm up
		var err error
		if took[i], err = logInFirst(ctx, p, roles); err != nil {
			return nil, err
		}
	}
	return map[string]float64{
		firstOne: took[1].Seconds() * 1e3, firstSame: took[2].Seconds() * 1e3, firstMany: took[3].Seconds() * 1e3,
		firsts: took[2].Seconds() / took[1].Seconds(),
	}, nil
}

// logInFirst logs in at once as these roles and returns how long that takes.
func logInFirst(ctx context.Context, p *pooler, roles []string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, clientLimit)
	defer cancel()
	var all sync.WaitGroup
	errs := make([]error, len(roles))
	clients := make([]*pgtest.Client, len(roles))
	start := time.Now()
	for i := range errs {
		all.Go(func() {
			clients[i], errs[i] = pgtest.Connect(ctx, pgtest.ClientConfig{Addr: p.addr(), User: roles[i], Password: password, Database: database})
		})
	}
	all.Wait()
	took := time.Since(start)
	for _, c := range clients {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return took, errors.Join(errs...)
}

// writeAsker makes the superuser file, with the user that may ask for what is stored of others.
func (r *rig) writeAsker(ctx context.Context, p *pooler) error {
	return r.writeCredential(ctx, p, filepath.Join(p.dir, "pgagroal_superuser.conf"), "postgres")
}
