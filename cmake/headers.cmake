# Every public header, one a line, in the order of the levels (tests/headers/levels.txt).
# A new header is added here and there; the test "headers.list" says so when it is forgotten.
set(LETHE_HEADERS
    lethe/version.hpp
    lethe/config.hpp
    lethe/numeric.hpp
    lethe/sparsity.hpp
    lethe/plan.hpp
    lethe/retention.hpp
    lethe/selection.hpp
    lethe/trace.hpp
    lethe/cache_view.hpp
    lethe/attention.hpp
    lethe/compact.hpp
)
