// `/` answers after 20 ms, `/slow` after four seconds: net/http with Shutdown on SIGTERM, as its
// documentation shows it.
package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func answer(after time.Duration, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(after)
		_, _ = io.WriteString(w, body)
	}
}

func main() {
	http.HandleFunc("/", answer(20*time.Millisecond, "fast\n"))
	http.HandleFunc("/slow", answer(4*time.Second, "slow\n"))
	server := &http.Server{Addr: ":8000"}
	over := make(chan struct{})
	go func() {
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		_ = server.Shutdown(context.Background())
		close(over)
	}()
	_ = server.ListenAndServe()
	<-over
}
