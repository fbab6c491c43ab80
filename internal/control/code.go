package control

// Exit codes of pgagroal-cli.
const (
	ExitOK = iota
	// ExitFailed says that the command line was wrong, that a configuration can't be
	// read, or that pgagroal refused the command or failed.
	ExitFailed
	// ExitUnreachable says that pgagroal gave no answer.
	ExitUnreachable
	// ExitNoPrimary is only for `ping --primary` and `ping --write`: pgagroal answers,
	// but has no primary that can be reached, or none that clients can write to.
	ExitNoPrimary
	// ExitUnknown is only for `upgrade`: pgagroal was restarted instead, or the version that should have taken
	// its place doesn't answer.
	ExitUnknown
)

// Numbers of failures, in Outcome.Error of the document. Those below 2000 mean the same
// as in C pgagroal.
const (
	CodeBadRequest     = 1
	CodeUnknownCommand = 2
	CodeMetrics        = 100
	CodeFlush          = 200
	CodeStatus         = 700
	CodeStatusDetails  = 800
	CodeConfGet        = 900
	CodeConfSet        = 1002
	CodeConfAlias      = 1200
	CodeSwitchTo       = 1300

	CodePermission      = 2000
	CodePing            = 2001
	CodeShutdown        = 2002
	CodeClearServer     = 2003
	CodeConfList        = 2004
	CodeFailoverStatus  = 2005
	CodeFailoverHistory = 2006
	CodeVersion         = 2007
	CodeFailoverPause   = 2008
	CodeFailoverResume  = 2009
	CodeFailoverReset   = 2010
	CodeFailoverTrigger = 2011
	CodeRehearse        = 2012
	CodeEnable          = 2013
	CodeDisable         = 2014
	CodeConfReload      = 2015
	CodePause           = 2016
	CodeResume          = 2017
	CodeClients         = 2018
	CodeServers         = 2019
	CodePools           = 2020
	CodeKick            = 2021
	CodeEvents          = 2022
	CodeConfReset       = 2030
	CodeRecycle         = 2031
	CodeUpgrade         = 2040
)
