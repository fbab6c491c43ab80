package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// TestARefusalInThePlaceOfAnAnswerProvesNothing has somebody in between who keeps the answer back.
func TestARefusalInThePlaceOfAnAnswerProvesNothing(t *testing.T) {
	_, err := answerOf(bytes.NewReader(pgwire.RefusalManagementCommand.With("made up").Append(nil)), auth.Seal{}, time.Second)
	if err == nil || !strings.Contains(err.Error(), "nothing proves that it is pgagroal's: ") || !strings.Contains(err.Error(), "made up") {
		t.Fatal(err)
	}
	if code := asExit(err).code; code != control.ExitUnreachable {
		t.Errorf("exit code %d: whether the command was carried out is unknown", code)
	}
}
