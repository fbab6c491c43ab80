// Package screen lays out text for people: tables that fit a width, wrapped sentences,
// durations, sizes, sparklines and colours. It escapes control characters in all text
// that it lays out, because names of applications and the output of scripts come from
// others.
package screen
