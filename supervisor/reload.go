package supervisor

// onReload answers SIGHUP. Nothing is read again in this version.
func (s *supervisor) onReload() {
	s.log.Warn("reload is not available in this version, restart to apply")
	s.service.note = "reload is not available in this version, restart to apply"
	s.statusChanged()
}
