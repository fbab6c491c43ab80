// Packages makes the .deb and the .rpm of what make install has written into a directory, so the list of files is
// the Makefile's. It is a module of its own, because its tools need many modules that pgagroal doesn't.
//
//   - nfpm.yaml: name, dependencies and descriptions.
//   - contents.go: which file of the directory is a conffile, documentation or compressed, and what only a package has.
//   - texts.go: licences of the linked modules, the list of components (SBOM), the changelog.
//   - scripts: what runs before and after unpacking and removing, for dpkg and for rpm.
//   - etc: the configuration of a new installation.
//
// Everything has the time of SOURCE_DATE_EPOCH and is in a fixed order, so two builds of the same commit are equal.
package main
