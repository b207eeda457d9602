/* Emulated by flagprov: stands for the header of Huawei's device management interface. */
