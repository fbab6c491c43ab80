// Package top is the live view of pgagroal-cli: a model that bubbletea runs, or that is
// drawn once. It asks for status details and failover status once a second, one question
// at a time, and decides nothing: what it shows is in the answers. A key that changes
// something asks first.
package top
