// The way into the control plane's orders for the rest of the sidecar.
export { followOrders } from "./follow.ts";
export { OtherArm } from "./other-arm.ts";
