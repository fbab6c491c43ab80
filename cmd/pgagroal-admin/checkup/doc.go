// Package checkup looks a whole set-up over before an operator relies on it, and says what to do. pgagroal-admin check
// is its only user.
//
// Rules of files, permissions and limits are those of pgagroal itself: the package asks the supervisor's own checks, and
// looks at servers with the prober's code. What it adds is what only several answers together show: which server is the
// primary, whether limits here fit those of the servers, whose clock is wrong.
//
//   - checkup.go: the order of the looks, and the report.
//   - finding.go: one finding, and its text for people.
//   - files.go: what the files say, and who may read them.
//   - machine.go: scripts, state_dir and the limit of open files.
//   - server.go: one server; all are looked at side by side, so that a dead one delays nothing but itself.
//   - answers.go: what the answers of one server mean.
//   - together.go: what the servers say together.
//
// It changes nothing, runs no script, and prints no secret.
package checkup
