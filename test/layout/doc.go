// Package layout has no code: its test holds the layout of this repository, who
// may import whom and how large files and functions may grow.
package layout
