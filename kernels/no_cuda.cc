// The names of the CUDA backend where it is not built.
namespace weft {}
