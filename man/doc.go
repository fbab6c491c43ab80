// Package man holds the manual pages, and a test that holds them true: what a
// page says of keys, options, commands, permits, exit codes and variables is
// compared with the code that it describes.
package man
