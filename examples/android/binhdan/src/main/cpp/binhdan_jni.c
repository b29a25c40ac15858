/* The native methods of vn.binhdan.Model. Handles of the library are integers, so Java holds no pointer. */
#include <binhdan.h>
#include <jni.h>
#include <stdlib.h>
#include <string.h>

/* Throws IOException with bytes as they are: JNI's own function expects modified UTF-8 and aborts otherwise. */
static void throw_text(JNIEnv* env, const char* text, size_t size) {
  jclass type = (*env)->FindClass(env, "java/io/IOException");
  jclass string = (*env)->FindClass(env, "java/lang/String");
  jmethodID make_string, make;
  jbyteArray bytes;
  jstring charset;
  jobject message, error;
  if (!type || !string) return;
  make_string = (*env)->GetMethodID(env, string, "<init>", "([BLjava/lang/String;)V");
  make = (*env)->GetMethodID(env, type, "<init>", "(Ljava/lang/String;)V");
  bytes = (*env)->NewByteArray(env, (jsize)size);
  charset = (*env)->NewStringUTF(env, "UTF-8");
  if (!make_string || !make || !bytes || !charset) return;
  (*env)->SetByteArrayRegion(env, bytes, 0, (jsize)size, (const jbyte*)text);
  message = (*env)->NewObject(env, string, make_string, bytes, charset);
  error = message ? (*env)->NewObject(env, type, make, message) : NULL;
  if (error) (*env)->Throw(env, (jthrowable)error);
}

/* Throws IOException with the library's message if a call has failed. */
static int failed(JNIEnv* env, int32_t status) {
  if (status == BINHDAN_OK) return 0;
  throw_text(env, binhdan_last_error(), strlen(binhdan_last_error()));
  return 1;
}

/* A copy of a byte array with a NUL at the end, to be freed; NULL after an exception. */
static char* copy_bytes(JNIEnv* env, jbyteArray array) {
  jsize size = (*env)->GetArrayLength(env, array);
  char* bytes = malloc((size_t)size + 1);
  if (!bytes) {
    throw_text(env, "out of memory", strlen("out of memory"));
    return NULL;
  }
  (*env)->GetByteArrayRegion(env, array, 0, size, (jbyte*)bytes);
  bytes[size] = 0;
  return bytes;
}

static void close_all(const jlong* handles) {
  binhdan_queue_close((binhdan_queue)handles[2]);
  binhdan_engine_close((binhdan_engine)handles[1]);
  binhdan_model_close((binhdan_model)handles[0]);
}

/* void nativeOpen(byte[] path, int threads, long[] handles): writes model, engine and queue. */
JNIEXPORT void JNICALL Java_vn_binhdan_Model_nativeOpen(JNIEnv* env, jclass self, jbyteArray path,
                                                        jint threads, jlongArray out) {
  binhdan_model model = 0;
  binhdan_engine engine = 0;
  binhdan_queue queue = 0;
  jlong handles[3] = {0, 0, 0};
  binhdan_model_options options;
  char* c_path = copy_bytes(env, path);
  (void)self;
  if (!c_path) return;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.threads = threads;
  if (!failed(env, binhdan_model_open(c_path, &options, &model)) &&
      !failed(env, binhdan_engine_create(model, NULL, &engine))) {
    failed(env, binhdan_queue_create(engine, &queue));
  }
  free(c_path);
  handles[0] = (jlong)model;
  handles[1] = (jlong)engine;
  handles[2] = (jlong)queue;
  if ((*env)->ExceptionCheck(env))
    close_all(handles); /* a handle of 0 is an error that close_all ignores */
  else
    (*env)->SetLongArrayRegion(env, out, 0, 3, handles);
}

static int32_t submit(const jlong* handles, const char* question, size_t size, jint max_tokens,
                      binhdan_request_id* id) {
  binhdan_message message = {"user", question, size};
  binhdan_request request;
  size_t count = 0;
  int32_t* tokens = NULL;
  binhdan_model model = (binhdan_model)handles[0];
  int32_t status = binhdan_chat_tokenize(model, BINHDAN_CHAT_AUTO, &message, 1, 1, NULL, 0, &count);
  if (status != BINHDAN_TOO_SMALL) return status;
  tokens = malloc(count * sizeof *tokens);
  if (!tokens) return BINHDAN_OUT_OF_MEMORY;
  status = binhdan_chat_tokenize(model, BINHDAN_CHAT_AUTO, &message, 1, 1, tokens, count, &count);
  if (status == BINHDAN_OK) {
    binhdan_request_init(&request);
    request.tokens = tokens;
    request.n_tokens = count;
    request.max_tokens = max_tokens;
    request.loop_guard = 64;
    status = binhdan_submit((binhdan_engine)handles[1], (binhdan_queue)handles[2], &request, id);
  }
  free(tokens);
  return status;
}

/* Passes text to the listener. Returns whether the answer shall go on: false after an exception of the listener. */
static int deliver(JNIEnv* env, jobject listener, jmethodID on_text, const binhdan_event* event) {
  jbyteArray bytes;
  jboolean more;
  if (!event->text_size) return 1;
  bytes = (*env)->NewByteArray(env, (jsize)event->text_size);
  if (!bytes) return 0;
  (*env)->SetByteArrayRegion(env, bytes, 0, (jsize)event->text_size, (const jbyte*)event->text);
  more = (*env)->CallBooleanMethod(env, listener, on_text, bytes);
  (*env)->DeleteLocalRef(env, bytes); /* an answer may have thousands of pieces */
  return more && !(*env)->ExceptionCheck(env);
}

/* void nativeAsk(long[] handles, byte[] question, int maxTokens, long[] request, Receiver receiver): returns at the
 * end of the answer. request[0] is what `cancel` needs. */
JNIEXPORT void JNICALL Java_vn_binhdan_Model_nativeAsk(JNIEnv* env, jclass self, jlongArray all,
                                                       jbyteArray question, jint max_tokens,
                                                       jlongArray request, jobject receiver) {
  jlong handles[3], current;
  binhdan_request_id id = 0;
  int ended = 0, deliverable = 1;
  int32_t status;
  char* text;
  jclass type = (*env)->GetObjectClass(env, receiver);
  jmethodID on_text = (*env)->GetMethodID(env, type, "onBytes", "([B)Z");
  (void)self;
  (*env)->GetLongArrayRegion(env, all, 0, 3, handles);
  if (!on_text || (*env)->ExceptionCheck(env) || !(text = copy_bytes(env, question))) return;
  status = submit(handles, text, (size_t)(*env)->GetArrayLength(env, question), max_tokens, &id);
  free(text);
  if (failed(env, status)) return;
  current = (jlong)id;
  (*env)->SetLongArrayRegion(env, request, 0, 1, &current);
  while (!ended) {
    binhdan_event* event = NULL;
    status = binhdan_queue_next((binhdan_queue)handles[2], -1, &event);
    if (status != BINHDAN_OK) {
      if (!(*env)->ExceptionCheck(env)) failed(env, status);
      return;
    }
    if (!event) continue;
    ended = event->kind == BINHDAN_EVENT_FINISHED;
    if (ended && event->finish == BINHDAN_FINISH_ERROR) {
      if (!(*env)->ExceptionCheck(env)) throw_text(env, event->text, event->text_size);
    } else if (deliverable && !deliver(env, receiver, on_text, event)) {
      deliverable =
          0; /* read the events up to the last one, so that the queue is empty for the next question */
      binhdan_cancel((binhdan_engine)handles[1], id);
    }
    binhdan_event_free(event);
  }
}

/* void nativeCancel(long[] handles, long[] request): from any thread. */
JNIEXPORT void JNICALL Java_vn_binhdan_Model_nativeCancel(JNIEnv* env, jclass self, jlongArray all,
                                                          jlongArray request) {
  jlong handles[3], id;
  (void)self;
  (*env)->GetLongArrayRegion(env, all, 0, 3, handles);
  (*env)->GetLongArrayRegion(env, request, 0, 1, &id);
  binhdan_cancel((binhdan_engine)handles[1], (binhdan_request_id)id);
}

/* void nativeClose(long[] handles): frees the memory. A question that runs ends with an exception. */
JNIEXPORT void JNICALL Java_vn_binhdan_Model_nativeClose(JNIEnv* env, jclass self, jlongArray all) {
  jlong handles[3];
  (void)self;
  (*env)->GetLongArrayRegion(env, all, 0, 3, handles);
  close_all(handles);
}
