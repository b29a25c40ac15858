// For files that are compiled for one instruction set. Such a file must not emit a symbol that the linker
// could choose for another file, and so for another CPU: helpers are `static` and always inlined, and the
// standard library's templates and inline functions are not called. .ci/check_objects.py checks the object
// files.
#pragma once

#define BINHDAN_INLINE [[gnu::always_inline]] static inline
