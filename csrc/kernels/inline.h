// For files compiled for one instruction set. Nothing in them may leave a symbol that the linker could pick
// for another file and another CPU: helpers are `static` and always inlined.
#pragma once

#define BINHDAN_INLINE [[gnu::always_inline]] static inline
