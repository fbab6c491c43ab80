package main

import (
	"math"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

func (p *program) shutdownCommands() []*cli.Command {
	return []*cli.Command{
		command("upgrade", "", "put the version of pgagroal that is installed now in the place of the running one, without a cut", p.upgrade),
		command("shutdown", "[gracefully | immediate | cancel]", "stop pgagroal, gracefully unless told otherwise, or take a graceful shutdown back", p.shutdown),
	}
}

func (p *program) shutdown(c *cli.Context, words []string) error {
	names := map[string]string{
		"": control.ShutdownGracefully, "gracefully": control.ShutdownGracefully,
		"immediate": control.ShutdownNow, "cancel": control.CancelShutdown,
	}
	name, ok := names[strings.Join(words, " ")]
	if !ok {
		return usagef("shutdown takes nothing or one of gracefully, immediate and cancel")
	}
	args := map[string]string{}
	if err := timeoutArg(c, args); err != nil {
		return err
	}
	_, err := p.do(c, name, args)
	return err
}

// timeoutArg adds --timeout to the arguments if it is given.
func timeoutArg(c *cli.Context, args map[string]string) error {
	if !c.IsSet("timeout") {
		return nil
	}
	seconds, err := parseSeconds(c.String("timeout"))
	if err != nil {
		return err
	}
	args[control.ArgTimeout] = strconv.FormatInt(seconds, 10)
	return nil
}

// parseSeconds reads 30, 30s, 5m, 1h, 2d or 1w.
func parseSeconds(text string) (int64, error) {
	units := map[string]int64{"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
	digits := strings.TrimRightFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	unit, ok := units[strings.ToLower(text[len(digits):])]
	n, err := strconv.ParseUint(digits, 10, 31)
	if !ok || err != nil || int64(n) > math.MaxInt32/unit {
		return 0, usagef("--timeout: %q is not a time such as 30, 30s, 5m, 1h, 2d or 1w", text)
	}
	return int64(n) * unit, nil
}
