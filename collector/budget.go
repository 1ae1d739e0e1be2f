package collector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

const (
	// ledgerFormat is the version of the stored ledger.
	ledgerFormat = 1
	// mostAhead is how many calls are written ahead at once, at the most: so many count as spent and were not, after a crash. Of what is
	// allowed in a period it is no more than a part, or a crash would spend all of it.
	mostAhead     = 10
	partsOfBlocks = 4
	// longestWait is how long a poll or a closing read waits for the budget before it is refused, and a pair for the devices that it comes
	// with; otherWait anything else, which must not hold those up.
	longestWait = time.Minute
	otherWait   = time.Second
)

// purposeKey carries in a context what a call is for.
type purposeKey struct{}

// purpose is what a call may do to be made: spend the reserve, and wait for the budget.
type purpose struct {
	reserve, patient bool
	begun            *atomic.Bool // not nil: a call is patient once one before it was made
}

func purposeOf(ctx context.Context) purpose {
	p, _ := ctx.Value(purposeKey{}).(purpose)
	return p
}

// withReserve marks the calls made under ctx as a poll's or a closing read's, which may spend the reserve, and wait for it.
func withReserve(ctx context.Context) context.Context {
	return context.WithValue(ctx, purposeKey{}, purpose{reserve: true, patient: true})
}

// withReserveOnceBegun marks the calls made under ctx as those of one look-up, which may spend the reserve. The first holds up no poll; those
// after it wait, since a look-up that is refused in its midst spends the same calls again.
func withReserveOnceBegun(ctx context.Context) context.Context {
	return context.WithValue(ctx, purposeKey{}, purpose{reserve: true, begun: new(atomic.Bool)})
}

// budgets are the budgets of the applications that this process calls as.
type budgets struct {
	ledgers    store.Ledgers
	allowances map[defender.Limit][]Allowance
	// held says whether this process collects for an application: who does writes calls ahead, all others write each call.
	held func(app string) bool

	mu      sync.Mutex
	open    map[string]*budget
	sharing map[string]map[*Collector]struct{} // by application: who spends its budget
}

func newBudgets(ledgers store.Ledgers, allowances map[defender.Limit][]Allowance) *budgets {
	return &budgets{
		ledgers: ledgers, allowances: allowances, held: func(string) bool { return true },
		open: map[string]*budget{}, sharing: map[string]map[*Collector]struct{}{},
	}
}

// application names an application at a tenant, which is what Microsoft counts by, in letters that a ledger's key may have.
func application(integration *integrationv1.Integration) string {
	sum := sha256.Sum256([]byte(strings.ToLower(integration.GetTenantId() + "\x00" + integration.GetAuthentication().GetClientId())))
	return hex.EncodeToString(sum[:16])
}

// spender returns the function that the adapter of an application asks before each call.
func (b *budgets) spender(app string) defender.SpendFunc {
	return func(ctx context.Context, limit defender.Limit) error {
		return b.of(app, limit).spend(ctx)
	}
}

// guest returns the function that is asked before each call that is made for an application outside its collector.
func (b *budgets) guest(app string) defender.SpendFunc {
	return func(ctx context.Context, limit defender.Limit) error {
		if b.held(app) {
			return b.of(app, limit).spend(ctx)
		}
		return b.of(app, limit).spendOne(ctx)
	}
}

// forget makes the ledgers of an application be read anew: another process has spent of its budget, or will.
func (b *budgets) forget(app string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, one := range b.open {
		if strings.HasPrefix(key, app+".") {
			one.unload()
		}
	}
}

// left tells what is left of each limit.
func (b *budgets) left(app string, limits ...defender.Limit) []*integrationv1.BudgetLeft {
	if !b.held(app) {
		b.forget(app)
	}
	var all []*integrationv1.BudgetLeft
	for _, limit := range limits {
		all = append(all, b.of(app, limit).left()...)
	}
	return all
}

func (b *budgets) of(app string, limit defender.Limit) *budget {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := app + "." + string(limit)
	one, ok := b.open[key]
	if !ok {
		one = &budget{key: key, limit: limit, ledgers: b.ledgers, allowances: b.allowances[limit], turn: make(chan struct{}, 1)}
		b.open[key] = one
	}
	return one
}

// budget is what may be spent of one limit. Calls are written ahead to the ledger in blocks, so that a restart never forgets
// one: the block under way counts as spent.
type budget struct {
	key        string
	limit      defender.Limit
	ledgers    store.Ledgers
	allowances []Allowance

	// turn is held while a call is counted, the ledger's write included.
	turn chan struct{}

	mu       sync.Mutex
	loaded   bool
	ledger   *storev1.Ledger
	revision uint64
	ahead    int         // calls of the block under way that were not made yet
	calls    []time.Time // made, or taken for made, oldest first
}

// spend counts a call, waiting a little until it is allowed.
func (b *budget) spend(ctx context.Context) error {
	p, wait := purposeOf(ctx), otherWait
	if p.patient || p.begun != nil && p.begun.Load() {
		wait = longestWait
	}
	err := b.wait(ctx, wait, func() (time.Time, error) { return b.try(ctx, p.reserve) })
	if err == nil && p.begun != nil {
		p.begun.Store(true)
	}
	return err
}

// wait calls try until it has counted the call, for as long as is waited, and in turn with others.
func (b *budget) wait(ctx context.Context, wait time.Duration, try func() (time.Time, error)) error {
	deadline := time.Now().Add(wait)
	for {
		select {
		case b.turn <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		at, err := try()
		<-b.turn
		if err != nil || at.IsZero() {
			return err
		}
		if at.After(deadline) {
			return b.refusal(at)
		}
		timer := time.NewTimer(time.Until(at))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// conflicts bounds how often a ledger is read anew since another process wrote it meanwhile.
const conflicts = 10

// try counts a call and returns zero, or says when to try again.
func (b *budget) try(ctx context.Context, reserve bool) (time.Time, error) {
	for range conflicts {
		if err := b.load(ctx); err != nil {
			return time.Time{}, err
		}
		now := time.Now()
		b.mu.Lock()
		b.forget(now)
		at := b.allowedAt(now, reserve)
		ahead := b.ahead
		b.mu.Unlock()
		if at.After(now) {
			return at, nil
		}
		if ahead == 0 {
			err := b.writeAhead(ctx, now)
			if errors.Is(err, store.ErrConflict) {
				continue
			}
			if err != nil {
				return time.Time{}, err
			}
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.ahead--
		b.calls = append(b.calls, now)
		return time.Time{}, nil
	}
	return time.Time{}, b.refusal(time.Now().Add(time.Second))
}

// spendOne counts a call where another process writes calls ahead: the ledger is read before each, and the call written before the block
// that may be under way, so that its holder still finds that last. It leaves the reserve alone.
func (b *budget) spendOne(ctx context.Context) error {
	return b.wait(ctx, otherWait, func() (time.Time, error) {
		for range conflicts {
			b.unload()
			if err := b.load(ctx); err != nil {
				return time.Time{}, err
			}
			now := time.Now()
			b.mu.Lock()
			b.forget(now)
			at, revision := b.allowedAt(now, false), b.revision
			blocks := slices.Clone(b.ledger.GetBlocks())
			b.loaded = false
			b.mu.Unlock()
			if at.After(now) {
				return at, nil
			}
			one := &storev1.Ledger_Block{Time: timestamppb.New(now), Calls: 1}
			blocks = slices.Insert(blocks, max(len(blocks)-1, 0), one)
			_, err := b.ledgers.PutLedger(ctx, b.key, &storev1.Ledger{Format: ledgerFormat, Blocks: blocks}, revision)
			if errors.Is(err, store.ErrConflict) {
				continue
			}
			if err != nil {
				return time.Time{}, fmt.Errorf("write the budget's ledger: %w", err)
			}
			return time.Time{}, nil
		}
		return time.Time{}, b.refusal(time.Now().Add(time.Second))
	})
}

// unload makes the ledger be read before the next call.
func (b *budget) unload() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.loaded = false
}

// allowedAt returns when the next call is allowed: now, or when enough calls are out of the period.
func (b *budget) allowedAt(now time.Time, reserve bool) time.Time {
	at := now
	for _, a := range b.allowances {
		allowed := a.Calls
		if !reserve {
			allowed = max(allowed-a.Reserve, 1)
		}
		if b.within(now, a.Period) < allowed {
			continue
		}
		// The call that must leave the period first.
		if free := b.calls[len(b.calls)-allowed].Add(a.Period); free.After(at) {
			at = free
		}
	}
	return at
}

// within counts the calls of the last period. The caller holds mu.
func (b *budget) within(now time.Time, period time.Duration) int {
	first, _ := slices.BinarySearchFunc(b.calls, now.Add(-period), func(call, bound time.Time) int {
		if call.After(bound) {
			return 1
		}
		return -1
	})
	return len(b.calls) - first
}

// forget drops the calls that no period counts any more.
func (b *budget) forget(now time.Time) {
	longest := b.longest()
	n := 0
	for n < len(b.calls) && now.Sub(b.calls[n]) >= longest {
		n++
	}
	b.calls = b.calls[n:]
}

func (b *budget) longest() time.Duration {
	var longest time.Duration
	for _, a := range b.allowances {
		longest = max(longest, a.Period)
	}
	return longest
}

// load reads the ledger the first time. Every block counts whole; the last one, which may have been under way, as if all of it
// was spent now.
func (b *budget) load(ctx context.Context) error {
	b.mu.Lock()
	loaded := b.loaded
	b.mu.Unlock()
	if loaded {
		return nil
	}
	ledger, revision, err := b.ledgers.Ledger(ctx, b.key)
	if err != nil {
		return fmt.Errorf("read the budget's ledger: %w", err)
	}
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ledger, b.revision, b.loaded, b.ahead, b.calls = ledger, revision, true, 0, nil
	for i, block := range ledger.GetBlocks() {
		at := block.GetTime().AsTime()
		if i == len(ledger.GetBlocks())-1 || at.After(now) {
			at = now
			block.Time = timestamppb.New(now)
		}
		for range block.GetCalls() {
			b.calls = append(b.calls, at)
		}
	}
	slices.SortFunc(b.calls, time.Time.Compare)
	return nil
}

// block returns how many calls are written ahead at once.
func (b *budget) block() int {
	ahead := mostAhead
	for _, a := range b.allowances {
		ahead = min(ahead, max(a.Calls/partsOfBlocks, 1))
	}
	return ahead
}

// writeAhead makes a block durable before the first of its calls is made.
func (b *budget) writeAhead(ctx context.Context, now time.Time) error {
	ahead := b.block()
	b.mu.Lock()
	next := &storev1.Ledger{Format: ledgerFormat}
	for i, block := range b.ledger.GetBlocks() {
		if i == len(b.ledger.GetBlocks())-1 {
			// The last call of that block was made before now.
			block = &storev1.Ledger_Block{Time: timestamppb.New(now), Calls: block.GetCalls()}
		}
		if now.Sub(block.GetTime().AsTime()) < b.longest() {
			next.Blocks = append(next.Blocks, block)
		}
	}
	next.Blocks = append(next.Blocks, &storev1.Ledger_Block{Time: timestamppb.New(now), Calls: int64(ahead)})
	revision := b.revision
	b.mu.Unlock()

	revision, err := b.ledgers.PutLedger(ctx, b.key, next, revision)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		// Whatever is there now counts: read it again before the next call.
		b.loaded = false
		return fmt.Errorf("write the budget's ledger: %w", err)
	}
	b.ledger, b.revision, b.ahead = next, revision, ahead
	return nil
}

// left tells what is left of the limit's allowances, by the ledger before the first call.
func (b *budget) left() []*integrationv1.BudgetLeft {
	select {
	case b.turn <- struct{}{}:
		ctx, cancel := context.WithTimeout(context.Background(), otherWait)
		_ = b.load(ctx) // Where the store does not answer, nothing is known to be spent; it is read again before a call is made.
		cancel()
		<-b.turn
	default: // a call is being counted, for which it was read
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	var all []*integrationv1.BudgetLeft
	for _, a := range b.allowances {
		within := b.within(now, a.Period)
		all = append(all, &integrationv1.BudgetLeft{
			Limit:   string(b.limit),
			Period:  durationpb.New(a.Period),
			Allowed: int64(a.Calls),
			Left:    int64(max(a.Calls-within, 0)),
		})
	}
	return all
}

// refusal says that the budget is spent.
func (b *budget) refusal(until time.Time) error {
	return &defender.Error{
		Problem: &integrationv1.Problem{
			Reason:  integrationv1.ErrorReason_ERROR_REASON_BUDGET_SPENT,
			Message: fmt.Sprintf("This service has spent its own budget of the limit %q until %s.", b.limit, until.UTC().Format(time.RFC3339)),
			Remedy:  "Wait: it goes on by itself. If this stays, poll less often, or register fewer integrations of the same application.",
		},
		RetryAt: until,
	}
}
