/** `sotto/cost`: what a private run will send, from the program alone, and how long a network takes for it. */
export {
  type Costs,
  type Forecast,
  forecast,
  type OnlineBytes,
  perLayer,
  type ScopeCosts,
  type SentBytes,
} from '../backends/cost/index.ts';
export { lan, type Network, shaped, wan } from '../net/shaped.ts';
export {
  forecastModel,
  forecastShape,
  type NetworkSeconds,
  networkSeconds,
  type RunForecast,
  type RunLength,
} from './forecast.ts';
