package census

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) { testproc.Main(m) }

// A stepped census begins to make a list, says so, and makes it when it is told to.
type stepped struct {
	*Census[[]int]
	begun chan bool // whether others wait
	goOn  chan struct{}
}

func newStepped() stepped {
	s := stepped{begun: make(chan bool), goOn: make(chan struct{})}
	lists := 0
	s.Census = New(func(list *[]int, others int) {
		lists++
		s.begun <- others > 0
		<-s.goOn
		*list = append((*list)[:0], lists)
	})
	return s
}

type answer struct {
	list   *List[[]int]
	waited time.Duration
}

// ask has an asker ask.
func (s stepped) ask(until time.Time) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		list, waited := s.Take(until)
		answers <- answer{list, waited}
	}()
	return answers
}

func (s stepped) awaitWaiting(t *testing.T, n int) {
	testproc.Wait(t, func() bool { return s.Waiting() == n })
}

// Askers that come while a list is made share the next one, and none shares the one that was begun before.
func TestOneListForAllWhoWait(t *testing.T) {
	const askers = 20
	s, later := newStepped(), time.Now().Add(time.Hour)
	alone := s.ask(later)
	assert.False(t, <-s.begun, "it asks alone")
	var others [askers]<-chan answer
	for i := range others {
		others[i] = s.ask(later)
	}
	s.awaitWaiting(t, askers)
	s.goOn <- struct{}{}
	assert.True(t, <-s.begun)
	first := (<-alone).list
	assert.Equal(t, []int{1}, first.Of)
	s.goOn <- struct{}{}
	next := (<-others[0]).list
	assert.NotSame(t, first, next)
	assert.Equal(t, []int{2}, next.Of)
	for _, other := range others[1:] {
		assert.Same(t, next, (<-other).list)
	}
	assert.Equal(t, uint64(2), s.Census.begun.Load())
	assert.Nil(t, s.last)
	for range askers {
		next.Release()
	}
	first.Release()
	assert.Zero(t, next.users.Load())
	assert.Zero(t, first.users.Load())
}

// However long a list takes, its asker and those that wait for the next one leave at their time; and the list is made
// once, for those that are still there.
func TestListThatTakesTooLong(t *testing.T) {
	var s stepped
	var soon time.Time
	var maker <-chan answer
	for d := 20 * time.Millisecond; ; d *= 2 {
		s, soon = newStepped(), time.Now().Add(d)
		maker = s.ask(soon)
		testproc.Wait(t, func() bool { return len(s.turn) == 1 || len(maker) == 1 })
		if len(s.turn) == 1 { // or a busy machine had it ask when its time was over
			break
		}
	}
	<-s.begun
	waiter := s.ask(soon)
	patient := s.ask(time.Now().Add(time.Hour))
	require.Nil(t, (<-maker).list)
	require.Nil(t, (<-waiter).list)
	assert.Equal(t, uint64(1), s.Census.begun.Load())
	s.awaitWaiting(t, 1)
	s.goOn <- struct{}{}
	assert.False(t, <-s.begun, "nothing else waits any more")
	s.goOn <- struct{}{}
	list := (<-patient).list
	require.NotNil(t, list, "the first was begun before the question")
	assert.Equal(t, []int{2}, list.Of)
	list.Release()
}

// To wait is to wait for others: for those before, and for the one that makes the list that is shared. An asker's own
// list is its own time.
func TestWaitIsForOthers(t *testing.T) {
	const d = 20 * time.Millisecond
	s, later := newStepped(), time.Now().Add(time.Hour)
	alone := s.ask(later)
	<-s.begun
	asked := time.Now()
	a := s.ask(later)
	s.awaitWaiting(t, 1)
	b := s.ask(later)
	s.awaitWaiting(t, 2)
	both := time.Now()
	time.Sleep(d)
	s.goOn <- struct{}{}
	<-s.begun
	first := time.Since(asked)
	time.Sleep(d)
	second := time.Since(both)
	s.goOn <- struct{}{}
	maker, sharer := <-a, <-b
	if maker.waited > sharer.waited {
		maker, sharer = sharer, maker
	}
	assert.LessOrEqual(t, maker.waited, first)
	assert.GreaterOrEqual(t, maker.waited, d)
	assert.GreaterOrEqual(t, sharer.waited, second)
	maker.list.Release()
	sharer.list.Release()
	(<-alone).list.Release()
}

// An asker never gets a list that was begun before it asked.
func TestListIsBegunAfterTheQuestion(t *testing.T) {
	begun, goOn := make(chan struct{}, 1), make(chan struct{}, 2)
	lists := 0
	s := stepped{Census: New(func(list *[]int, _ int) {
		lists++
		begun <- struct{}{}
		<-goOn
		*list = []int{lists}
	})}
	first := s.ask(time.Now().Add(time.Hour))
	<-begun
	second := s.ask(time.Now().Add(time.Hour))
	s.awaitWaiting(t, 1)
	goOn <- struct{}{}
	goOn <- struct{}{}
	assert.Equal(t, []int{1}, (<-first).list.Of)
	assert.Equal(t, []int{2}, (<-second).list.Of)
}
