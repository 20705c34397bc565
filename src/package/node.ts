/** `sotto/node`: what comes from Node: folders, pictures, downloads, sockets, ONNX Runtime in a worker. */

export type { EntropySource, KeyDerivation, Prg, PrgFactory } from '../math/random.ts';
export type { Alarm, Channel, ChannelCounters, ChannelSecurity, Clock, Frame } from '../net/contract.ts';
export type { Address, SocketOptions } from '../node/address.ts';
export type { AcceptOptions, Expected, Visitor } from '../node/arrivals.ts';
export {
  type CertificateOptions,
  type CertificateSet,
  type Issued,
  makeCertificates,
  writeCertificates,
} from '../node/certificates.ts';

export { systemAlarm, systemClock } from '../node/clock.ts';
export { folderFiles } from '../node/files.ts';
export { type Pulled, type PullOptions, type PullProgress, pull } from '../node/hub.ts';
export { createParallelKernels, type ParallelKernels, type ParallelOptions } from '../node/kernels.ts';
export { type OnnxBackend, type OnnxOptions, type Optimisation, onnxBackend } from '../node/onnx.ts';
export { aesPrg, type BlockCipher, fixedKeyAes, hkdf, systemEntropy } from '../node/randomness.ts';
export { connect, type Listener, listen } from '../node/sockets.ts';
export { loadCredentials, type TlsCredentials, type TlsFiles, type TlsRole } from '../node/tls.ts';
export type { Patience } from '../node/transfer.ts';
export { loadImage } from '../pictures/index.ts';
