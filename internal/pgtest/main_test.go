package pgtest

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// generous bounds waits that end in milliseconds on a quiet machine.
const generous = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
