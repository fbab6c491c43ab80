package supervisor

// onReload handles SIGHUP. This version does not read the configuration again.
func (s *supervisor) onReload() {
	s.log.Warn("reload is not available in this version, restart to apply")
	s.service.note = "reload is not available in this version, restart to apply"
	s.statusChanged()
}
