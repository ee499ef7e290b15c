package otelsafeexec_test

import (
	"errors"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed841d8200/safeexec"
	otelsafeexec "github.com/seed841d8200/safeexec/adapters/otel"
)

func TestSpans(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	observer := otelsafeexec.New(provider, propagation.TraceContext{})
	ctx, parent := provider.Tracer("test").Start(t.Context(), "parent")
	for _, test := range []struct {
		script, errorType string
		timeout           time.Duration
	}{
		{"echo $TRACEPARENT; : secret", "", time.Minute},
		{"exit 3", "3", time.Minute},
		{"kill -9 $$", "signal", time.Minute},
		{"sleep 600", "timeout", 100 * time.Millisecond},
	} {
		var res safeexec.Result
		err := safeexec.ErrStartStalled
		var span sdktrace.ReadOnlySpan
		for timeout := test.timeout; errors.Is(err, safeexec.ErrStartStalled); timeout *= 2 { // or the machine is busy
			before := len(recorder.Ended())
			res, err = safeexec.Run(ctx, exec.Command("/bin/sh", "-c", test.script),
				safeexec.WithTimeout(timeout), safeexec.WithObserver(observer))
			require.Len(t, recorder.Ended(), before+1)
			span = recorder.Ended()[before]
		}
		assert.Equal(t, "sh", span.Name())
		assert.Equal(t, trace.SpanKindClient, span.SpanKind())
		assert.Equal(t, parent.SpanContext().SpanID(), span.Parent().SpanID())
		want := []attribute.KeyValue{
			attribute.String("process.executable.name", "sh"), attribute.Int("process.pid", res.PID),
		}
		if res.ExitCode >= 0 {
			want = append(want, attribute.Int("process.exit.code", res.ExitCode))
		}
		if test.errorType == "" {
			require.NoError(t, err)
			assert.Equal(t, codes.Unset, span.Status().Code)
			sc := span.SpanContext()
			assert.Equal(t, fmt.Sprintf("00-%s-%s-01", sc.TraceID(), sc.SpanID()), res.Stdout.String())
		} else {
			require.Error(t, err)
			want = append(want, attribute.String("error.type", test.errorType))
			assert.Equal(t, codes.Error, span.Status().Code)
		}
		assert.ElementsMatch(t, want, span.Attributes())
	}
}
