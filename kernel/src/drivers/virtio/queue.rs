//! A queue for one request at a time, answered while the driver waits.
//!
//! Requests and answers lie in a page of the queue's own, so nothing that anybody else uses is ever given to the device. What
//! comes back is believed only if it is the request that went out, with an answer of a possible length. After a fault
//! the queue is of no use: the device may still have the page. So the page and the rings are never freed.

use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use donors::Fault;
use frames::{FRAME_SIZE, FrameRun, Memory, Zones};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;

use super::hal::GuestHal;
use super::port::Port;
use crate::time::Deadline;

/// Descriptors: a request and its answer, or up to as many blocks of memory.
pub const DESCRIPTORS: usize = 32;
/// Where the answer lies in the page.
const ANSWER_AT: usize = 2048;
/// The longest request.
pub const REQUEST_MAX: usize = ANSWER_AT;
/// The longest answer.
pub const ANSWER_MAX: usize = FRAME_SIZE - ANSWER_AT;

/// How long the device may take for an answer.
const PATIENCE_SECONDS: u64 = 10;

/// The queue.
pub struct Queue {
    number: u16,
    ring: ManuallyDrop<VirtQueue<GuestHal, DESCRIPTORS>>,
    page: ManuallyDrop<FrameRun>,
    /// A request that was handed over and has not come back: its token and its length.
    out: Option<(u16, usize)>,
}

impl Queue {
    /// Sets up queue `number` of a device that does not run yet.
    ///
    /// # Errors
    /// [`Fault::NoQueue`], if there is no memory, or the device's queue is too short.
    pub fn new(memory: &'static Memory, port: &mut Port, number: u16) -> Result<Self, Fault> {
        let refused = Fault::NoQueue(number);
        let page = memory.allocate_run(Zones::Ephemeral, 0).ok_or(refused)?;
        let mut ring = VirtQueue::new(&mut *port.transport, number, false, false).map_err(|_| refused)?;
        ring.set_dev_notify(false);
        Ok(Self { number, ring: ManuallyDrop::new(ring), page: ManuallyDrop::new(page), out: None })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Lets the device call when it returns a buffer of this queue.
    pub fn call_me(&mut self) {
        self.ring.set_dev_notify(true);
    }

    /// Hands over `request` and waits until the device has answered into `answer`, every byte of it.
    ///
    /// # Errors
    /// [`Fault`]; the device must then be reset.
    pub fn ask(&mut self, port: &mut Port, request: &[u8], answer: &mut [u8]) -> Result<(), Fault> {
        self.write(request)?;
        let lengths = (request.len(), answer.len());
        let token = self.submit(port, lengths)?;
        let patience = Deadline::after_seconds(PATIENCE_SECONDS);
        while !self.ring.can_pop() {
            if patience.passed() {
                return Err(Fault::Silent);
            }
            core::hint::spin_loop();
        }
        self.pop(token, lengths)?;
        let from = self.page.bytes().get(ANSWER_AT..ANSWER_AT + answer.len());
        answer.copy_from_slice(from.ok_or(Fault::Garbage("the length of an answer"))?);
        Ok(())
    }

    /// Hands over `buffer` for the device to keep until it wants another.
    ///
    /// # Errors
    /// [`Fault`]; the device must then be reset.
    pub fn leave(&mut self, port: &mut Port, buffer: &[u8]) -> Result<(), Fault> {
        if self.out.is_some() {
            return Err(Fault::Garbage("a buffer that has not come back"));
        }
        self.write(buffer)?;
        let token = self.submit(port, (buffer.len(), 0))?;
        self.out = Some((token, buffer.len()));
        Ok(())
    }

    /// Whether the buffer that was left came back, or none was left.
    ///
    /// # Errors
    /// [`Fault`]; the device must then be reset.
    pub fn returned(&mut self) -> Result<bool, Fault> {
        let Some((token, len)) = self.out else { return Ok(true) };
        if !self.ring.can_pop() {
            return Ok(false);
        }
        self.pop(token, (len, 0))?;
        self.out = None;
        Ok(true)
    }

    /// Shows the device `blocks` of memory that nobody uses, as buffers that it may write to, and waits until it is done with them.
    ///
    /// # Errors
    /// [`Fault`]; the device must then be reset, and the blocks not be used unless it confirmed that.
    pub fn show(&mut self, port: &mut Port, blocks: &mut [FrameRun]) -> Result<(), Fault> {
        let count = blocks.len().min(DESCRIPTORS);
        let mut buffers: [&mut [u8]; DESCRIPTORS] = core::array::from_fn(|_| &mut [][..]);
        for (buffer, block) in buffers.iter_mut().zip(blocks) {
            *buffer = block.bytes_mut();
        }
        let buffers = buffers.get_mut(..count).filter(|buffers| !buffers.is_empty());
        let buffers = buffers.ok_or(Fault::Garbage("no block to show"))?;
        // SAFETY: the blocks are borrowed from their owner until this returns. When it returns before the device was done, the
        // caller keeps them out of use until the device is reset, or for ever.
        let token = unsafe { self.ring.add(&[], buffers) }.map_err(|_| Fault::Garbage("a queue that is full"))?;
        self.notify(port);
        let patience = Deadline::after_seconds(PATIENCE_SECONDS);
        while !self.ring.can_pop() {
            if patience.passed() {
                return Err(Fault::Silent);
            }
            core::hint::spin_loop();
        }
        // SAFETY: these are the buffers that were added.
        unsafe { self.ring.pop_used(token, &[], buffers) }.map_err(|_| Fault::Garbage("a token that was not given"))?;
        Ok(())
    }

    fn write(&mut self, request: &[u8]) -> Result<(), Fault> {
        let room = self.page.bytes_mut().get_mut(..request.len().min(REQUEST_MAX));
        match room.filter(|room| room.len() == request.len()) {
            Some(room) => {
                room.copy_from_slice(request);
                Ok(())
            }
            None => Err(Fault::Garbage("a request that is too long")),
        }
    }

    /// The page's request and answer as the device is given them.
    fn buffers(&self, (request, answer): (usize, usize)) -> (NonNull<[u8]>, NonNull<[u8]>) {
        let page = self.page.as_ptr();
        // SAFETY: both lie within the page.
        let behind = unsafe { page.byte_add(ANSWER_AT) };
        let request = NonNull::slice_from_raw_parts(page, request.min(REQUEST_MAX));
        (request, NonNull::slice_from_raw_parts(behind, answer.min(ANSWER_MAX)))
    }

    fn submit(&mut self, port: &mut Port, lengths: (usize, usize)) -> Result<u16, Fault> {
        let (request, answer) = self.buffers(lengths);
        // SAFETY: the page is this queue's own and stays so for ever; nobody refers to its bytes now, and nobody does until
        // the request has come back, because one request is under way at a time.
        let added = unsafe {
            match lengths.1 {
                0 => self.ring.add(&[request.as_ref()], &mut []),
                _ => self.ring.add(&[request.as_ref()], &mut [&mut *answer.as_ptr()]),
            }
        };
        let token = added.map_err(|_| Fault::Garbage("a queue that is full"))?;
        self.notify(port);
        Ok(token)
    }

    fn notify(&self, port: &mut Port) {
        // The device must see the new index before it is told.
        fence(Ordering::SeqCst);
        port.transport.notify(self.number);
    }

    /// Takes the one request back; the device wrote as much as it was to.
    fn pop(&mut self, token: u16, lengths: (usize, usize)) -> Result<(), Fault> {
        let (request, answer) = self.buffers(lengths);
        // SAFETY: these are the buffers that were added under this token, and the references end with the call.
        let popped = unsafe {
            match lengths.1 {
                0 => self.ring.pop_used(token, &[request.as_ref()], &mut []),
                _ => self.ring.pop_used(token, &[request.as_ref()], &mut [&mut *answer.as_ptr()]),
            }
        };
        match popped {
            Ok(written) if written as usize == lengths.1 => Ok(()),
            Ok(_) => Err(Fault::Garbage("the length of an answer")),
            Err(_) => Err(Fault::Garbage("a token that was not given")),
        }
    }
}
