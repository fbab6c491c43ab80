package pgtest

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// generous bounds waits that end in milliseconds on a quiet machine.
const generous = time.Minute

// patience is how long a test looks at something that must not happen.
const patience = 150 * time.Millisecond

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
