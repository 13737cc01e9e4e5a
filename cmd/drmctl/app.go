package main

import (
	"cmp"
	"context"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap/zapcore"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

// Names of the global flags.
const (
	flagEndpoints      = "endpoints"
	flagApp            = "app"
	flagPrefix         = "prefix"
	flagCACert         = "cacert"
	flagCert           = "cert"
	flagKey            = "key"
	flagUser           = "user"
	flagPassword       = "password"
	flagDialTimeout    = "dial-timeout"
	flagCommandTimeout = "command-timeout"
	flagOutput         = "output"
	flagWidth          = "width"
	flagColor          = "color"
	flagLogLevel       = "log-level"
)

const description = `DRM shares resources (connections, pollers, subscriptions: whatever exactly one process should be
handling) among members, and keeps it so while members join, leave, hang or die. etcd holds all that
has to be agreed on.

Flags, of drmctl and of a command, may stand before or after the command and its arguments.
An argument that begins with "-" goes after "--". A flag given wins over its environment variable, and over those
of flags that it excludes.

EXIT CODES:
   0  fine
   1  failed
   2  wrong usage
   3  no such resource or member, or no such app
   4  etcd unreachable within the command timeout
   5  over the quota of the app

EXAMPLES:
   drmctl demo
   drmctl agent --app feeds --source-url https://example.org/feeds --handler-url http://127.0.0.1:9000/
   drmctl --app feeds members
   drmctl lookup feed-42 --app feeds -o json`

// run does all that drmctl does, apart from what concerns the process. args are the arguments after the program's name.
// It returns the exit code. When ctx ends, run ends as early as the command allows.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if _, isFile := stderr.(*os.File); !isFile { // a command, its log and its processes may write at the same time
		stderr = zapcore.Lock(zapcore.AddSync(stderr))
	}
	app := newApp(stdin, stdout, stderr)
	argv, err := arrange(app, args)
	if err == nil {
		flags := argv
		if i := slices.Index(argv, "--"); i >= 0 { // what follows is no flag of drmctl
			flags = argv[:i]
		}
		help := &mindful{Writer: stdout}
		if slices.Contains(flags, "--"+flagHelp) {
			app.Writer = help // which package cli writes without a look at errors
		} else { // help names all variables
			forgetEmpty(app)
			forgetOverruled(app, commandIn(app, argv))
		}
		err = cmp.Or(plainly(app, app.RunContext(ctx, append([]string{app.Name}, argv...))), help.err)
	}
	return report(ctx, stderr, err)
}

// mindful remembers that something could not be written.
type mindful struct {
	io.Writer

	err error
}

func (m *mindful) Write(p []byte) (int, error) {
	n, err := m.Writer.Write(p)
	m.err = cmp.Or(m.err, err)
	return n, err
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:            "drmctl",
		Usage:           "look at a distributed resource manager, operate it, and run members of it",
		UsageText:       "drmctl COMMAND [flags] [arguments]\ndrmctl COMMAND --help",
		Description:     description,
		Reader:          stdin,
		Writer:          stdout,
		ErrWriter:       stderr,
		HideHelp:        true, // helpFlag replaces it: all apps of a process share package cli's own flag
		HideHelpCommand: true, // arrange replaces it
		HideVersion:     true, // the version command replaces it
		Flags:           append(globalFlags(), helpFlag()),
		Commands: []*cli.Command{
			demoCommand(),
			benchCommand(),
			simulateCommand(),
			etcdCommand(),
			agentCommand(),
			runCommand(),
			planCommand(),
			membersCommand(),
			resourcesCommand(),
			assignmentsCommand(),
			lookupCommand(),
			explainCommand(),
			describeCommand(),
			statusCommand(),
			doctorCommand(),
			eventsCommand(),
			sourceCommand(),
			fetchCommand(),
			forgetSourceCommand(),
			allocateCommand(),
			deallocateCommand(),
			retryCommand(),
			suspendCommand(),
			resumeCommand(),
			drainCommand(),
			undrainCommand(),
			cordonCommand(),
			uncordonCommand(),
			weightCommand(),
			pinCommand(),
			unpinCommand(),
			pinsCommand(),
			moveCommand(),
			rebalanceCommand(),
			reshardCommand(),
			appsCommand(),
			appCommand(),
			dumpCommand(),
			loadCommand(),
			verifyCommand(),
			schemaCommand(),
			versionCommand(),
			debugCommand(),
			manCommand(),
			completionCommand(),
			completeCommand(),
			namesCommand(),
		},
		OnUsageError: onUsageError,
		// The caller of run decides what an error means.
		ExitErrHandler: func(*cli.Context, error) {},
	}
	for _, path := range commandPaths(app) {
		c := path[len(path)-1]
		c.HideHelp, c.HideHelpCommand = true, true
		c.Flags = append(c.Flags, helpFlag())
		c.OnUsageError = onUsageError
		c.Before = checkRules(strings.Join(namesOf(path), " "))
		c.CustomHelpTemplate = cli.CommandHelpTemplate +
			"\nGlobal flags (`drmctl --help` lists them) may stand here too.\n"
		if len(c.Subcommands) > 0 {
			c.CustomHelpTemplate = groupHelpTemplate
		}
	}
	return app
}

// groupHelpTemplate is the help of a command that does nothing but group other commands.
const groupHelpTemplate = `NAME:
   {{template "helpNameTemplate" .}}

USAGE:
   {{.HelpName}} COMMAND [flags] [arguments]
   {{.HelpName}} COMMAND --help

DESCRIPTION:
   {{template "descriptionTemplate" .}}

COMMANDS:{{template "visibleCommandCategoryTemplate" .}}
`

func helpFlag() cli.Flag {
	return &cli.BoolFlag{Name: flagHelp, Aliases: []string{"h"}, Usage: "show help", DisableDefaultText: true}
}

func onUsageError(_ *cli.Context, err error, _ bool) error { return &usageError{err} }

func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: flagEndpoints, EnvVars: []string{"DRM_ENDPOINTS"}, Value: "127.0.0.1:2379",
			Usage: "etcd's addresses, `HOST:PORT` or URL, separated by commas",
		},
		&cli.StringFlag{
			Name: flagApp, EnvVars: []string{"DRM_APP"},
			Usage: "the `APP`: one set of members and resources; needed by all commands but apps, demo, doctor, " +
				"etcd, run, bench, simulate, schema, man, completion and version; app takes it as an argument too",
		},
		&cli.StringFlag{
			Name: flagPrefix, EnvVars: []string{"DRM_PREFIX"}, Value: drm.DefaultPrefix,
			Usage: "where all apps are kept in etcd, a `KEY` prefix",
		},
		&cli.StringFlag{
			Name: flagCACert, EnvVars: []string{"DRM_CACERT"},
			Usage: "PEM `FILE` of the authorities that may have signed etcd's certificate; turns TLS on",
		},
		&cli.StringFlag{
			Name: flagCert, EnvVars: []string{"DRM_CERT"},
			Usage: "PEM `FILE` of the client certificate to show to etcd; turns TLS on, needs --key",
		},
		&cli.StringFlag{
			Name: flagKey, EnvVars: []string{"DRM_KEY"},
			Usage: "PEM `FILE` of the key of --cert",
		},
		&cli.StringFlag{
			Name: flagUser, EnvVars: []string{"DRM_USER"},
			Usage: "etcd's user, as `NAME[:PASSWORD]`",
		},
		&cli.StringFlag{
			Name: flagPassword, EnvVars: []string{"DRM_PASSWORD"},
			Usage: "the `PASSWORD` of --user; better in the environment, where other users do not see it",
		},
		&cli.DurationFlag{
			Name: flagDialTimeout, EnvVars: []string{"DRM_DIAL_TIMEOUT"}, Value: drm.DefaultDialTimeout,
			Usage: "how long etcd's first answer is waited for",
		},
		&cli.DurationFlag{
			Name: flagCommandTimeout, EnvVars: []string{"DRM_COMMAND_TIMEOUT"}, Value: drm.DefaultCommandTimeout,
			Usage: "how long a command may take (less what --wait waits), and of agent each request to etcd",
		},
		&cli.StringFlag{
			Name: flagOutput, Aliases: []string{"o"}, EnvVars: []string{"DRM_OUTPUT"}, Value: string(output.Table),
			Usage: "`FORMAT` of what is printed: " + formatWords,
		},
		&cli.IntFlag{
			Name: flagWidth, EnvVars: []string{"DRM_WIDTH"},
			Usage:       "how wide the lines of a table may be, in `COLUMNS`",
			DefaultText: "as wide as the terminal, and as the texts where there is none",
		},
		&cli.StringFlag{
			Name: flagColor, EnvVars: []string{"DRM_COLOR"}, Value: colorAuto,
			Usage: "`WHEN` tables are coloured: auto (on a terminal, without $NO_COLOR), always or never",
		},
		&cli.StringFlag{
			Name: flagLogLevel, EnvVars: []string{"DRM_LOG_LEVEL"},
			Usage: "the least `LEVEL` that is logged, on stderr: debug, info, warn or error (default: info of agent, " +
				"error of etcd)",
		},
	}
}
