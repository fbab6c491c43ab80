package pool

import "testing"

func TestOnlyTheMarkedPartOfThePageIsReplaced(t *testing.T) {
	got, err := ReplaceMarked("a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n", "x", "new\n")
	if want := "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n"; got != want || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := ReplaceMarked("a\n<!-- x:end -->\n", "x", "new"); err == nil {
		t.Error("a page without the markers was accepted")
	}
}
