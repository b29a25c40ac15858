package vn.binhdan;

import java.io.Closeable;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;

/**
 * A language model. `ask` blocks its thread until the answer ends, so call it from a worker thread; one question
 * runs at a time. `cancel` and `close` may be called from any thread.
 */
public final class Model implements Closeable {
    /** Receives an answer while it is computed, in the thread that called `ask`. */
    public interface Listener {
        /** Returns false to end the answer. */
        boolean onText(String text);
    }

    static {
        System.loadLibrary("binhdan_jni");
    }

    private final long[] handles = new long[3]; // model, engine, queue
    private final long[] request = new long[1]; // the last one

    /**
     * Opens a GGUF file.
     *
     * @param threads 0: chosen by the library
     * @throws IOException if the file cannot be read, is damaged or does not fit into memory; the message says why
     */
    public Model(File file, int threads) throws IOException {
        nativeOpen(file.getPath().getBytes(StandardCharsets.UTF_8), threads, handles);
    }

    /**
     * Asks a question in the model's chat format.
     *
     * @param maxTokens of the answer
     * @return the whole answer, or its part until the listener returned false or `cancel` was called
     */
    public synchronized String ask(String question, int maxTokens, Listener listener) throws IOException {
        StringBuilder answer = new StringBuilder();
        byte[] bytes = question.getBytes(StandardCharsets.UTF_8);
        nativeAsk(
                handles,
                bytes,
                maxTokens,
                request,
                piece -> {
                    String text = new String(piece, StandardCharsets.UTF_8); // pieces are whole characters
                    answer.append(text);
                    return listener == null || listener.onText(text);
                });
        return answer.toString();
    }

    /** Ends the current answer before its next token. */
    public void cancel() {
        nativeCancel(handles, request);
    }

    /** Frees the memory. A question that runs fails with an IOException. */
    @Override
    public void close() {
        nativeClose(handles);
    }

    private interface Receiver {
        boolean onBytes(byte[] text);
    }

    // binhdan_jni.c. Texts are UTF-8: JNI's own strings are modified UTF-8, which differs outside the BMP.
    private static native void nativeOpen(byte[] path, int threads, long[] handles) throws IOException;

    private static native void nativeAsk(
            long[] handles, byte[] question, int maxTokens, long[] request, Receiver receiver)
            throws IOException;

    private static native void nativeCancel(long[] handles, long[] request);

    private static native void nativeClose(long[] handles);
}
