#include <cuda_runtime_api.h>

#include <string>

#include "tests/emulator/failure.h"

namespace {

struct Known {
  cudaError_t error;
  const char *name, *text;
};
#define WEFT_KNOWN(name, text) \
  { name, #name, text }
constexpr Known kKnown[] = {
    WEFT_KNOWN(cudaSuccess, "no error"),
    WEFT_KNOWN(cudaErrorInvalidValue, "invalid argument"),
    WEFT_KNOWN(cudaErrorMemoryAllocation, "out of memory"),
    WEFT_KNOWN(cudaErrorInitializationError, "initialization error"),
    WEFT_KNOWN(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    WEFT_KNOWN(cudaErrorInvalidDevicePointer, "invalid device pointer"),
    WEFT_KNOWN(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    WEFT_KNOWN(cudaErrorInsufficientDriver,
               "CUDA driver version is insufficient for CUDA runtime version"),
    WEFT_KNOWN(cudaErrorInvalidDeviceFunction, "invalid device function"),
    WEFT_KNOWN(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    WEFT_KNOWN(cudaErrorInvalidDevice, "invalid device ordinal"),
    WEFT_KNOWN(cudaErrorDeviceUninitialized, "invalid device context"),
    WEFT_KNOWN(cudaErrorMapBufferObjectFailed, "mapping of buffer object failed"),
    WEFT_KNOWN(cudaErrorPeerAccessUnsupported,
               "peer access is not supported between these two devices"),
    WEFT_KNOWN(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    WEFT_KNOWN(cudaErrorNotReady, "device not ready"),
    WEFT_KNOWN(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    WEFT_KNOWN(cudaErrorLaunchTimeout, "the launch timed out and was terminated"),
    WEFT_KNOWN(cudaErrorPeerAccessAlreadyEnabled, "peer access is already enabled"),
    WEFT_KNOWN(cudaErrorPeerAccessNotEnabled, "peer access has not been enabled"),
    WEFT_KNOWN(cudaErrorAssert, "device-side assert triggered"),
    WEFT_KNOWN(cudaErrorHostMemoryAlreadyRegistered,
               "part or all of the requested memory range is already mapped"),
    WEFT_KNOWN(cudaErrorHostMemoryNotRegistered,
               "pointer does not correspond to a registered memory region"),
    WEFT_KNOWN(cudaErrorHardwareStackError, "hardware stack error"),
    WEFT_KNOWN(cudaErrorIllegalInstruction, "an illegal instruction was encountered"),
    WEFT_KNOWN(cudaErrorMisalignedAddress, "misaligned address"),
    WEFT_KNOWN(cudaErrorLaunchFailure, "unspecified launch failure"),
    WEFT_KNOWN(cudaErrorCooperativeLaunchTooLarge, "too many blocks in cooperative launch"),
    WEFT_KNOWN(cudaErrorNotPermitted, "operation not permitted"),
    WEFT_KNOWN(cudaErrorNotSupported, "operation not supported"),
    WEFT_KNOWN(cudaErrorStreamCaptureUnsupported,
               "operation not permitted when stream is capturing"),
    WEFT_KNOWN(cudaErrorStreamCaptureInvalidated,
               "operation failed due to a previous error during capture"),
    WEFT_KNOWN(cudaErrorStreamCaptureMerge,
               "operation would result in a merge of separate capture sequences"),
    WEFT_KNOWN(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream"),
    WEFT_KNOWN(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    WEFT_KNOWN(cudaErrorStreamCaptureIsolation,
               "dependency created on uncaptured work in another stream"),
    WEFT_KNOWN(cudaErrorStreamCaptureImplicit,
               "operation would make the legacy stream depend on a capturing blocking stream"),
    WEFT_KNOWN(cudaErrorCapturedEvent,
               "operation not permitted on an event last recorded in a capturing stream"),
    WEFT_KNOWN(cudaErrorStreamCaptureWrongThread,
               "attempt to terminate a thread-local capture sequence from another thread"),
    WEFT_KNOWN(cudaErrorGraphExecUpdateFailure,
               "the graph update was not performed because it included changes which violated "
               "constraints specific to instantiated graph update"),
    WEFT_KNOWN(cudaErrorUnknown, "unknown error"),
};
#undef WEFT_KNOWN

const Known& known(cudaError_t error) {
  for (const auto& entry : kKnown) {
    if (entry.error == error) return entry;
  }
  return kKnown[sizeof kKnown / sizeof kKnown[0] - 1];
}

// Errors that the emulator can say more about.
bool has_text(cudaError_t error) {
  return error == cudaErrorLaunchFailure || error == cudaErrorIllegalAddress ||
         error == cudaErrorInvalidDevicePointer;
}

}  // namespace

extern "C" {

const char* cudaGetErrorName(cudaError_t error) { return known(error).name; }

const char* cudaGetErrorString(cudaError_t error) {
  const char* const plain = known(error).text;
  const std::string more = has_text(error) ? weft::emulated::last_failure() : std::string();
  if (more.empty()) return plain;
  static thread_local std::string text;
  text = std::string(plain) + ": " + more;
  return text.c_str();
}

}  // extern "C"
