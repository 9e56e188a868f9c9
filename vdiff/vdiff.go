package vdiff

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
)

// Last stands for the newest comparison where a UUID is wanted.
const Last = "last"

// A Workflow is what a comparison needs of a workflow; *migrate.Workflow is one.
type Workflow interface {
	// Name is "keyspace.workflow".
	Name() string
	// Databases returns a pool for every shard of both ends, by shard name, with the shard's database selected. The pools
	// belong to the workflow. Session settings of their connections are changed and not put back.
	Databases(ctx context.Context) (sources, targets map[string]*sql.DB, err error)
	// TablePairs are the workflow's tables: what of the source has to be where on the target. zone is that of the source's DATETIME
	// values if the workflow converts them to UTC, else nil.
	TablePairs(ctx context.Context) (pairs []replication.TablePair, zone *time.Location, err error)
	// WaitApplied blocks until every target shard has applied what source shard's position p contains. It
	// returns an error at once when a stream is not one that will get there. With the zero Position it only checks that. Such an
	// error says the stream's state ("Copying", "Stopped", "Error") by a method StreamState() string.
	WaitApplied(ctx context.Context, sourceShard string, p replication.Position) error
	// Sidecar is the name of the sidecar database on the target shards.
	Sidecar() string
}

// A VDiff compares the two ends of one workflow. Its methods may be called at the same time and from several processes.
type VDiff struct{ wf Workflow }

// New returns the VDiff of a workflow. It does nothing yet.
func New(wf Workflow) *VDiff { return &VDiff{wf} }

// Options say what is compared and how. The zero value compares all tables.
type Options struct {
	// UUID names the comparison; empty: a new one is made.
	UUID string `json:"-"`
	// Tables are the names, on the target, of the tables to compare; empty: all of the workflow.
	Tables []string `json:"tables,omitempty"`
	// MaxSampleRows is the number of differences of each kind, table and target shard that the report shows; 0: 10. All are
	// counted.
	MaxSampleRows int `json:"max_sample_rows,omitempty"`
	// ColumnTruncate is the number of bytes beyond which the report cuts values of columns outside the key; 0: 128,
	// less than 0: never. What is compared is never cut.
	ColumnTruncate int `json:"row_diff_column_truncate_at,omitempty"`
	// Parallel is the number of tables that are compared at the same time; 0: 2.
	Parallel int `json:"parallel,omitempty"`
	// WaitTimeout is how long the target may take each time to apply what the source had committed; 0: 5 minutes.
	WaitTimeout time.Duration `json:"wait_timeout,omitempty"`
	// Logger gets a line when a comparison begins and ends; nil: none.
	Logger *slog.Logger `json:"-"`
}

func (o Options) withDefaults() Options {
	o.UUID = strings.ToLower(o.UUID)
	o.MaxSampleRows = cmp.Or(o.MaxSampleRows, 10)
	o.ColumnTruncate = cmp.Or(o.ColumnTruncate, 128)
	o.Parallel = cmp.Or(o.Parallel, 2)
	o.WaitTimeout = cmp.Or(o.WaitTimeout, 5*time.Minute)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Tables = slices.Compact(slices.Sorted(slices.Values(o.Tables)))
	return o
}

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func (o Options) validate() error {
	var errs []error
	if o.UUID != "" && !uuidPattern.MatchString(o.UUID) {
		errs = append(errs, &OptionError{"UUID", fmt.Sprintf("%q is no UUID", o.UUID)})
	}
	if o.MaxSampleRows < 0 {
		errs = append(errs, &OptionError{"MaxSampleRows", "negative"})
	}
	if o.Parallel < 0 {
		errs = append(errs, &OptionError{"Parallel", "negative"})
	}
	if o.WaitTimeout < 0 {
		errs = append(errs, &OptionError{"WaitTimeout", "negative"})
	}
	return errors.Join(errs...)
}

// newUUID makes a version 4 UUID.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, says the package
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Create compares the ends and returns the final report; it takes as long as that takes. A difference is no error:
// see Report.HasMismatch. When the comparison ends early the report so far comes with the error, unless the
// comparison could not be recorded at all.
//
// Errors: [ErrCopying], [ErrNotRunning], [ErrBehind], [ErrExists], a [NotFoundError] of tables, an [OptionError], [ErrNoKey],
// and what the workflow and its servers say.
func (v *VDiff) Create(ctx context.Context, opts Options) (*Report, error) {
	s, rec, err := v.record(ctx, opts, StateStarted)
	if err != nil {
		return nil, err
	}
	return s.run(ctx, rec, StateStopped)
}

// Prepare records a comparison and returns its UUID, for Run or RunPending in this or another process. Errors are those of
// Create.
func (v *VDiff) Prepare(ctx context.Context, opts Options) (uuid string, err error) {
	_, rec, err := v.record(ctx, opts, StatePending)
	if err != nil {
		return "", err
	}
	return rec.report.UUID, nil
}

// Run makes a recorded comparison (a UUID or [Last]) and returns its report as Create does. It is an ErrState if the comparison
// is not pending, unless its runner has died: then it begins again. The options are those given to Prepare, except
// for the Logger.
func (v *VDiff) Run(ctx context.Context, uuid string) (*Report, error) {
	return v.resume(ctx, uuid, StateStopped)
}

// RunPending makes all comparisons of the workflow that are pending or whose runner has died, one after another; it returns nil when
// there are none. When the context ends the one under way becomes pending again. A process that runs streams calls
// it now and then, so that Prepare is enough elsewhere. The error joins those of the comparisons; the others are made
// all the same.
func (v *VDiff) RunPending(ctx context.Context) error {
	s, err := v.open(ctx)
	if err != nil {
		return err
	}
	uuids, err := s.store.pending(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, uuid := range uuids {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		// Another process may have been faster.
		if _, err := v.resume(ctx, uuid, StatePending); err != nil && !errors.Is(err, ErrState) && !errors.Is(err, ErrNotFound) {
			errs = append(errs, fmt.Errorf("vdiff %s: %w", uuid, err))
		}
	}
	return errors.Join(errs...)
}

// Show returns a comparison's report, final or so far, by UUID or [Last]. There being none is a NotFoundError.
func (v *VDiff) Show(ctx context.Context, uuid string) (*Report, error) {
	s, err := v.open(ctx)
	if err != nil {
		return nil, err
	}
	rec, err := s.store.find(ctx, strings.ToLower(uuid))
	if err != nil {
		return nil, err
	}
	rec.report.SourceShards, rec.report.TargetShards = s.source.names(), s.target.names()
	return rec.report, nil
}

// List returns the workflow's comparisons, at most 100, newest first, with their tables.
func (v *VDiff) List(ctx context.Context) ([]*Report, error) {
	s, err := v.open(ctx)
	if err != nil {
		return nil, err
	}
	recs, err := s.store.list(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]*Report, len(recs))
	for i, rec := range recs {
		if err := s.store.loadTables(ctx, rec); err != nil {
			return nil, err
		}
		rec.report.SourceShards, rec.report.TargetShards = s.source.names(), s.target.names()
		out[i] = rec.report
	}
	return out, nil
}

// Delete removes a comparison's record, by UUID or [Last]. A comparison that is being made ends with ErrNotFound soon.
func (v *VDiff) Delete(ctx context.Context, uuid string) error {
	s, err := v.open(ctx)
	if err != nil {
		return err
	}
	rec, err := s.store.find(ctx, strings.ToLower(uuid))
	if err != nil {
		return err
	}
	return s.store.sidecar.DeleteVDiff(ctx, rec.report.UUID)
}

// A session is the opened ends of a workflow.
type session struct {
	wf             Workflow
	source, target *end
	store          *store
	log            *slog.Logger
}

func (v *VDiff) open(ctx context.Context) (*session, error) {
	sources, targets, err := v.wf.Databases(ctx)
	if err != nil {
		return nil, err
	}
	s := &session{wf: v.wf, log: slog.New(slog.DiscardHandler)}
	if s.source, err = openEnd(ctx, "source", mysqlerr.Source, sources); err != nil {
		return nil, err
	}
	if s.target, err = openEnd(ctx, "target", mysqlerr.Target, targets); err != nil {
		return nil, err
	}
	keyspace, workflow, _ := strings.Cut(v.wf.Name(), ".")
	first := s.target.shards[0].db
	s.store = &store{db: first, sidecar: sidecar.Attach(first, v.wf.Sidecar()), keyspace: keyspace, workflow: workflow}
	return s, nil
}

// record checks what can be checked and stores a new comparison.
func (v *VDiff) record(ctx context.Context, opts Options, state State) (*session, *record, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, nil, err
	}
	s, err := v.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	s.log = opts.Logger
	if _, err := s.subjects(ctx, opts.Tables); err != nil {
		return nil, nil, err
	}
	if err := s.running(ctx); err != nil {
		return nil, nil, err
	}
	r := &Report{
		Workflow: s.store.workflow, Keyspace: s.store.keyspace, UUID: cmp.Or(opts.UUID, newUUID()), State: state,
		SourceShards: s.source.names(), TargetShards: s.target.names(), Options: opts,
	}
	rec, err := s.store.insert(ctx, r)
	return s, rec, err
}

// running checks that all streams are past the copy and run.
func (s *session) running(ctx context.Context) error {
	for _, shard := range s.source.shards {
		if err := s.wf.WaitApplied(ctx, shard.name, replication.Position{}); err != nil {
			return streamError(s.wf.Name(), shard.name, err)
		}
	}
	return nil
}

// subjects returns the workflow's tables of these names (all if there are none), after checking that they can be compared.
func (s *session) subjects(ctx context.Context, names []string) ([]*subject, error) {
	pairs, zone, err := s.wf.TablePairs(ctx)
	if err != nil {
		return nil, err
	}
	byName := map[string]replication.TablePair{}
	for _, p := range pairs {
		t := p.Target
		if t == nil {
			t = p.Source
		}
		byName[t.Name] = p
	}
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(byName))
	}
	var out []*subject
	var unknown []string
	var errs []error
	for _, name := range names {
		p, ok := byName[name]
		if !ok {
			unknown = append(unknown, name)
			continue
		}
		t, err := newSubject(p, s.target.names(), zone)
		if err != nil {
			errs = append(errs, fmt.Errorf("workflow %s: table %s: %w", s.wf.Name(), name, err))
			continue
		}
		out = append(out, t)
	}
	if unknown != nil {
		errs = append(errs, &NotFoundError{Kind: "table", Name: strings.Join(unknown, ", "), Workflow: s.wf.Name()})
	}
	return out, errors.Join(errs...)
}
