// Package man holds the manual pages, and tests that hold them and the documents true.
// What a page says of keys, options, commands, permits, exit codes and variables is
// compared with the code that it describes. Of README, doc and pages together the
// commands are parsed, settings and whole configurations are loaded, and paths, targets,
// tests, fields of answers, alarms and messages are looked up.
package man
