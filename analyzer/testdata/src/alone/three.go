package alone

import "context"

func three(ctx context.Context) error {
	return command().Run() // want `without a bound`
}
