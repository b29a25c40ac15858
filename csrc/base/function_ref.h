// A reference to a callable, for parameters of functions that call it before they return. Unlike
// std::function it never allocates.
#pragma once
#include <memory>
#include <type_traits>
#include <utility>

namespace binhdan {

template <typename Signature>
class FunctionRef;

template <typename Result, typename... Args>
class FunctionRef<Result(Args...)> {
 public:
  template <typename F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
  FunctionRef(const F& f)  // NOLINT(google-explicit-constructor): callers pass a lambda
      : object_(std::addressof(f)), call_([](const void* object, Args... args) -> Result {
          return (*static_cast<const F*>(object))(std::forward<Args>(args)...);
        }) {}

  Result operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  const void* object_;
  Result (*call_)(const void*, Args...);
};

}  // namespace binhdan
