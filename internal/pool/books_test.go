package pool

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A Ledger that is made of the books of another one knows the same and goes on in the same way.
func TestALedgerGoesOnWithTheBooksOfAnother(t *testing.T) {
	rules := []Rule{{Max: 2, Key: keyB, Min: 1}}
	l := opened(5, rules...)
	l.WorkerReady(0) // opens one ahead for keyB: lease 1
	l.Request(0, 1, keyA, NoRule, 10)
	l.Request(1, 2, keyA, NoRule, 20)
	l.RequestUnproven(1, 3, keyA, NoRule, 30)
	l.Request(2, 4, keyB, 0, 40)
	if _, err := l.Opened(1, 3, 77, "secret"); err != nil {
		t.Fatal(err)
	}
	l.WorkerGone(2)                   // an orphan
	l.Request(0, 5, keyA, NoRule, 60) // waits
	l.Request(1, 6, keyB, 0, 50)      // waits for its rule
	l.RequestUnproven(1, 7, keyA, NoRule, 70)
	l.SetTarget(3, 7, false)
	books := l.Books()
	if len(books.Leases) != 5 || len(books.Requests) != 3 || !books.Leases[0].Ahead {
		t.Fatalf("the books have %+v", books)
	}
	next := Reopened(5, rules, books, func(_ Key, rule int) int { return rule })
	same := cmpopts.EquateEmpty()
	if d := cmp.Diff(books, next.Books(), same); d != "" {
		t.Errorf("its books differ:\n%s", d)
	}
	if d := cmp.Diff(l.Counts(), next.Counts()); d != "" {
		t.Errorf("its counts differ:\n%s", d)
	}
	if d := cmp.Diff(l.SetTarget(3, 7, true), next.SetTarget(3, 7, true), same); d != "" {
		t.Errorf("when it opens it does something else:\n%s", d)
	}
	if d := cmp.Diff(returned(t, l, 0, 2), returned(t, next, 0, 2), same); d != "" {
		t.Errorf("with the next lease it does something else:\n%s", d)
	}
	if _, _, _, err := next.AheadFailed(0, 1); err != nil {
		t.Errorf("it doesn't know a lease that was given ahead: %v", err)
	}
}
