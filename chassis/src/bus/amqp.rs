//! bus/amqp
