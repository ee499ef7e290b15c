package dashboard

import (
	"encoding/json"
	"math"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/seed841d8200/safeexec"
	otelsafeexec "github.com/seed841d8200/safeexec/adapters/otel"
	promsafeexec "github.com/seed841d8200/safeexec/adapters/prometheus"
	"github.com/seed841d8200/safeexec/safeexectest"
)

// A board is what the tests read of a dashboard.
type board struct {
	Panels []struct {
		Title   string `json:"title"`
		Targets []struct {
			Expr   string `json:"expr"`
			Legend string `json:"legendFormat"`
		} `json:"targets"`
	} `json:"panels"`
	Templating struct {
		List []struct {
			Name, Type, Definition string
		} `json:"list"`
	} `json:"templating"`
}

// A query is one of a panel, or of a variable.
type query struct{ title, expr, legend string }

var (
	labelValues = regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)
	legendLabel = regexp.MustCompile(`{{(\w+)}}`)
	// variables are what Grafana would put in their place, with all commands selected.
	variables = strings.NewReplacer("$__rate_interval", "1m", "$__range", "3h", "$command", ".*")
)

// read returns the queries of a dashboard, and the titles of its panels.
func read(t *testing.T, file string) (queries []query, titles []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var b board
	require.NoError(t, json.Unmarshal(text, &b))
	for _, p := range b.Panels {
		titles = append(titles, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			queries = append(queries, query{p.Title, variables.Replace(target.Expr), target.Legend})
		}
	}
	for _, v := range b.Templating.List {
		if v.Type == "query" {
			parts := labelValues.FindStringSubmatch(v.Definition)
			require.NotNil(t, parts, v.Definition)
			queries = append(queries, query{"variable " + v.Name, "count by (" + parts[2] + ") (" + parts[1] + ")", "{{" + parts[2] + "}}"})
		}
	}
	for _, q := range queries {
		require.NotContains(t, q.expr, "$", "a variable that the test does not know")
	}
	return queries, titles
}

// A scrape is what a server reads at one time.
type scrape struct {
	at       time.Time
	families []*dto.MetricFamily
}

// observe has an observer told of runs of every kind, and returns what gatherer has in between. No process
// is started.
func observe(t *testing.T, observer safeexec.Observer, gatherer prometheus.Gatherer) []scrape {
	t.Helper()
	server := httptest.NewServer(promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	defer server.Close()
	fake := new(safeexectest.Fake)
	ctx := safeexectest.WithFake(t, t.Context(), fake)
	opts := safeexec.Options(safeexec.WithTimeout(time.Hour), safeexec.WithObserver(observer), safeexec.WithOutputLimit(4))
	const rounds = 3
	for name, outcome := range map[string]safeexectest.Outcome{
		"good":     {Stdout: "0123456789", Stderr: "0123456789"},
		"bad":      {ExitCode: 3},
		"slow":     safeexectest.TimedOut(nil),
		"missing":  safeexectest.NotFound(),
		"immortal": safeexectest.Survived(safeexec.ProcessInfo{PID: 1 << 30, Name: "immortal"}),
	} {
		fake.Expect(name).Return(outcome).Times(rounds)
	}
	fake.Expect("server").Return(safeexectest.Outcome{Hangs: true})
	p, err := safeexec.Start(ctx, exec.Command("server"), opts)
	require.NoError(t, err)
	defer func() { _, _ = p.Stop() }()

	var scrapes []scrape
	for round := range rounds {
		for _, name := range []string{"good", "bad", "slow", "missing", "immortal"} {
			_, err := safeexec.Run(ctx, exec.Command(name), opts)
			require.Equal(t, name == "good", err == nil, "%s: %v", name, err)
		}
		resp, err := server.Client().Get(server.URL)
		require.NoError(t, err)
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		s := scrape{at: time.Unix(1_800_000_000, 0).Add(time.Duration(round) * 15 * time.Second)}
		for _, f := range families {
			s.families = append(s.families, f)
		}
		scrapes = append(scrapes, s)
	}
	return scrapes
}

// A server answers queries as Prometheus does, at the time of the last scrape.
type server struct {
	db     *tsdb.DB
	engine *promql.Engine
	now    time.Time
}

// serve stores the scrapes, but for the metric that is left out.
func serve(t *testing.T, scrapes []scrape, leftOut string) *server {
	t.Helper()
	options := tsdb.DefaultOptions()
	options.RetentionDuration = 0 // the times are made up
	db, err := tsdb.Open(t.TempDir(), nil, nil, options, nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	s := &server{db: db, engine: promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e6, Timeout: 5 * time.Minute, Parser: parser.NewParser(parser.Options{}),
	})}
	for _, scrape := range scrapes {
		s.now = scrape.at
		app := db.Appender(t.Context())
		for _, family := range scrape.families {
			if family.GetName() == leftOut {
				continue
			}
			samples, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: model.TimeFromUnixNano(scrape.at.UnixNano())}, family)
			require.NoError(t, err)
			for _, sample := range samples {
				set := labels.NewBuilder(labels.EmptyLabels())
				for name, value := range sample.Metric {
					set.Set(string(name), string(value))
				}
				_, err := app.Append(0, set.Labels(), int64(sample.Timestamp), float64(sample.Value))
				require.NoError(t, err)
			}
		}
		require.NoError(t, app.Commit())
	}
	return s
}

// ask returns what the server has for a query.
func (s *server) ask(t *testing.T, q query) promql.Vector {
	t.Helper()
	asked, err := s.engine.NewInstantQuery(t.Context(), s.db, nil, q.expr, s.now)
	require.NoError(t, err, q.expr)
	defer asked.Close()
	result := asked.Exec(t.Context())
	require.NoError(t, result.Err, q.expr)
	assert.Empty(t, result.Warnings, q.expr)
	vector, err := result.Vector()
	require.NoError(t, err, q.expr)
	return append(promql.Vector{}, vector...)
}

// shows reports whether a panel would show something: all of it is a number, and some of it is not 0.
func shows(vector promql.Vector) bool {
	sum := 0.0
	for _, sample := range vector {
		sum += sample.F
	}
	return sum > 0 && !math.IsInf(sum, 0)
}

func TestDashboards(t *testing.T) {
	t.Parallel()
	commands := []string{"good", "bad", "slow", "missing", "immortal", "server"}
	_, titles := read(t, "../prometheus/dashboard.json")
	for name, source := range map[string]func(*testing.T, *prometheus.Registry) safeexec.Observer{
		"prometheus": func(t *testing.T, registry *prometheus.Registry) safeexec.Observer {
			metrics := promsafeexec.New(commands...)
			require.NoError(t, registry.Register(metrics))
			return metrics
		},
		"otel": func(t *testing.T, registry *prometheus.Registry) safeexec.Observer {
			exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutTargetInfo())
			require.NoError(t, err)
			metrics, err := otelsafeexec.NewMetrics(sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter)), commands...)
			require.NoError(t, err)
			return metrics
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queries, itsTitles := read(t, "../"+name+"/dashboard.json")
			assert.Equal(t, titles, itsTitles, "both show the same")
			registry := prometheus.NewRegistry()
			scrapes := observe(t, source(t, registry), registry)

			all := serve(t, scrapes, "")
			for _, q := range queries {
				vector := all.ask(t, q)
				assert.True(t, shows(vector), "%s: %s: %v", q.title, q.expr, vector)
				for _, label := range legendLabel.FindAllStringSubmatch(q.legend, -1) {
					named := false
					for _, sample := range vector {
						named = named || sample.Metric.Has(label[1])
					}
					assert.True(t, named, "%s: the legend has %s, %s has not", q.title, label[1], q.expr)
				}
			}
			// Without any one metric, or with another name for it, a panel is empty.
			for _, family := range scrapes[0].families {
				without, empty := serve(t, scrapes, family.GetName()), 0
				for _, q := range queries {
					if !shows(without.ask(t, q)) {
						empty++
					}
				}
				assert.Positive(t, empty, "no panel needs %s", family.GetName())
			}
		})
	}
}
