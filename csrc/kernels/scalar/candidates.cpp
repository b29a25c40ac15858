#include "kernels/candidate_lanes.h"
#include "kernels/scalar/functions.h"

namespace binhdan::scalar {
namespace {
using Loops = CandidateLanes<4>;
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

}  // namespace binhdan::scalar
