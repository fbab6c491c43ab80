package timers

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestMain(m *testing.M) { pool.Main(m) }
