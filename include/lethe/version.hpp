#pragma once

/// The version of the library; the one source that the build system reads.
#define LETHE_VERSION_MAJOR 0
#define LETHE_VERSION_MINOR 1
#define LETHE_VERSION_PATCH 0
