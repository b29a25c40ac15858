#include "kernels/avx2/functions.h"
#include "kernels/candidate_lanes.h"

namespace binhdan::avx2 {
namespace {
using Loops = CandidateLanes<8>;
}

void scale_sums(CandidateSums& out, const CandidateArgs& args) {
  Loops::sums<false>(out, args);
}
void line_sums(CandidateSums& out, const CandidateArgs& args) {
  Loops::sums<true>(out, args);
}
void scale_errors(Candidates& out, const CandidateArgs& args) {
  Loops::errors<false>(out, args);
}
void line_errors(Candidates& out, const CandidateArgs& args) {
  Loops::errors<true>(out, args);
}

}  // namespace binhdan::avx2
