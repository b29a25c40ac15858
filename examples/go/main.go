// Asks a model one question and prints the answer as it comes:  embed MODEL.gguf "question"
//
// Build: CGO_CFLAGS=-I$BINHDAN_DIR/include CGO_LDFLAGS="-L$BINHDAN_DIR/lib -Wl,-rpath,$BINHDAN_DIR/lib" go build
package main

/*
#cgo LDFLAGS: -lbinhdan
#include <binhdan.h>
#include <stdlib.h>

// A message and a request contain pointers, which Go code may not store in memory of Go.
static int32_t tokenize_question(binhdan_model model, const char* text, size_t size, int32_t* tokens,
                                 size_t capacity, size_t* count) {
  binhdan_message message = {"user", text, size};
  return binhdan_chat_tokenize(model, BINHDAN_CHAT_AUTO, &message, 1, 1, tokens, capacity, count);
}

static int32_t submit_tokens(binhdan_engine engine, binhdan_queue queue, const int32_t* tokens, size_t count,
                             int32_t max_tokens, binhdan_request_id* id) {
  binhdan_request request;
  binhdan_request_init(&request);
  request.tokens = tokens;
  request.n_tokens = count;
  request.max_tokens = max_tokens;
  return binhdan_submit(engine, queue, &request, id);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"
)

// check returns the error of a failed call. The message belongs to the calling thread, so main locks its thread.
func check(status C.int32_t) error {
	if status == C.BINHDAN_OK {
		return nil
	}
	return errors.New(C.GoString(C.binhdan_last_error()))
}

// prompt returns the tokens of the question in the model's chat format.
func prompt(model C.binhdan_model, question string) ([]C.int32_t, error) {
	text := C.CString(question)
	defer C.free(unsafe.Pointer(text))
	tokens := make([]C.int32_t, len(question)+64)
	for {
		var count C.size_t
		status := C.tokenize_question(model, text, C.size_t(len(question)), &tokens[0], C.size_t(len(tokens)), &count)
		if status == C.BINHDAN_OK {
			return tokens[:count], nil
		}
		if status != C.BINHDAN_TOO_SMALL {
			return nil, check(status)
		}
		tokens = make([]C.int32_t, count)
	}
}

func ask(file, question string) error {
	path := C.CString(file)
	defer C.free(unsafe.Pointer(path))
	var model C.binhdan_model
	if err := check(C.binhdan_model_open(path, nil, &model)); err != nil {
		return err
	}
	defer C.binhdan_model_close(model)
	var engine C.binhdan_engine
	if err := check(C.binhdan_engine_create(model, nil, &engine)); err != nil {
		return err
	}
	defer C.binhdan_engine_close(engine)
	var queue C.binhdan_queue
	if err := check(C.binhdan_queue_create(engine, &queue)); err != nil {
		return err
	}
	tokens, err := prompt(model, question)
	if err != nil {
		return err
	}
	var id C.binhdan_request_id
	if err := check(C.submit_tokens(engine, queue, &tokens[0], C.size_t(len(tokens)), 512, &id)); err != nil {
		return err
	}
	for {
		var event *C.binhdan_event
		if err := check(C.binhdan_queue_next(queue, -1, &event)); err != nil {
			return err
		}
		text := C.GoStringN(event.text, C.int(event.text_size))
		ended, failed := event.kind == C.BINHDAN_EVENT_FINISHED, event.finish == C.BINHDAN_FINISH_ERROR
		C.binhdan_event_free(event)
		if ended && failed {
			return errors.New(text)
		}
		fmt.Print(text)
		if ended {
			fmt.Println()
			return nil
		}
	}
}

func main() {
	runtime.LockOSThread()
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, `usage: embed MODEL.gguf "question"`)
		os.Exit(2)
	}
	if err := ask(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}
